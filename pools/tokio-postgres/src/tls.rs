//! TLS by rustls with aws-lc-rs.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use claviger::error::ConnectError;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Verification of the server's certificate.
#[derive(Clone)]
pub(crate) enum Tls {
    /// By the platform's roots, which are read once.
    Platform(Arc<OnceLock<Platform>>),
    Given(MakeRustlsConnect),
}

pub(crate) struct Platform {
    /// `None` if TLS cannot be used at all.
    connector: Option<MakeRustlsConnect>,
    /// Reason why there are no roots.
    problem: Option<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self::Platform(Arc::default())
    }
}

impl Tls {
    pub(crate) fn given(config: ClientConfig) -> Self {
        Self::Given(MakeRustlsConnect::new(config))
    }

    pub(crate) fn with_root_certificates(pem: &Path) -> Result<Self, ConnectError> {
        let misconfigured = |problem: String| {
            let problem = format!("{} {problem}", pem.display());
            ConnectError::misconfigured("root_certificates", problem)
        };
        let unreadable = |error| misconfigured(format!("cannot be read ({error}); check the file"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(pem).map_err(unreadable)? {
            let added = roots.add(certificate.map_err(unreadable)?);
            added.map_err(|error| {
                misconfigured(format!("has an invalid certificate ({error}); replace it"))
            })?;
        }
        if roots.is_empty() {
            let problem = "has no certificate; give the CA's in PEM format";
            return Err(misconfigured(problem.to_owned()));
        }
        let config = client_config(roots).map_err(|error| misconfigured(error.to_string()))?;
        Ok(Self::given(config))
    }

    /// Returns an error if TLS is required and the platform has no roots.
    pub(crate) fn check(&self, mode: SslMode) -> Result<(), ConnectError> {
        let Self::Platform(platform) = self else {
            return Ok(());
        };
        match &platform.get_or_init(Platform::read).problem {
            Some(problem) if mode == SslMode::Require => Err(ConnectError::misconfigured(
                "root_certificates",
                format!("the platform has none{problem}; set with_root_certificates"),
            )),
            _ => Ok(()),
        }
    }

    /// Returns the connector, `None` if TLS cannot be used at all.
    pub(crate) fn connector(&self) -> Option<MakeRustlsConnect> {
        match self {
            Self::Platform(platform) => platform.get_or_init(Platform::read).connector.clone(),
            Self::Given(connector) => Some(connector.clone()),
        }
    }
}

/// Reads the platform's authorities, which verify a server by default. Without any, the second
/// value is the reason.
pub fn platform_roots() -> (RootCertStore, Option<String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let first = found.errors.first();
    let problem = roots
        .is_empty()
        .then(|| first.map_or(String::new(), |error| format!(" ({error})")));
    (roots, problem)
}

impl Platform {
    fn read() -> Self {
        let (roots, problem) = platform_roots();
        Self {
            connector: client_config(roots).ok().map(MakeRustlsConnect::new),
            problem,
        }
    }
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
}
