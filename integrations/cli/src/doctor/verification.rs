//! Verification of a server's certificate, whose results are recorded and not enforced.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::certificate::Certificate;

/// Results of the verification of a server. Each is independent of the others.
#[derive(Clone, Debug)]
pub(super) struct Verification {
    /// Whether the certificates are valid now.
    pub(super) time: Result<(), rustls::Error>,
    /// Whether they lead to a known authority, at a time at which they are valid.
    pub(super) authority: Result<(), rustls::Error>,
    /// Whether they lead to an authority that is not expired. rustls accepts expired ones.
    pub(super) unexpired: Result<(), rustls::Error>,
    /// Whether the server's certificate is for this host.
    pub(super) name: Result<(), rustls::Error>,
}

/// The authorities that a driver trusts.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) all: RootCertStore,
    /// Those that are not expired. `None` if these are all.
    pub(super) unexpired: Option<RootCertStore>,
}

/// The server's certificate with those beside it, and the results.
type Recorded = (Vec<CertificateDer<'static>>, Verification);

/// Accepts every certificate and records the result of its verification. No secret is sent over
/// the connection before the result is checked.
#[derive(Debug)]
pub(super) struct Recorder {
    crypto: Arc<CryptoProvider>,
    /// Without any authority there is no verifier.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    /// The verifier by the authorities that are not expired, if some are.
    unexpired: Option<Option<Arc<WebPkiServerVerifier>>>,
    recorded: Mutex<Option<Recorded>>,
}

impl Recorder {
    pub(super) fn new(roots: Roots) -> Self {
        let crypto = Arc::new(aws_lc_rs::default_provider());
        let verifier = |roots: RootCertStore| {
            let crypto = Arc::clone(&crypto);
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto);
            builder.build().ok()
        };
        Self {
            verifier: verifier(roots.all),
            unexpired: roots.unexpired.map(verifier),
            recorded: Mutex::new(None),
            crypto,
        }
    }

    pub(super) fn crypto(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.crypto)
    }

    /// Returns the certificates of the last handshake, and the results of their verification.
    pub(super) fn take(&self) -> Option<Recorded> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.take()
    }

    fn verdict(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Verification {
        let verifier = self.verifier.as_deref();
        let (mut time, mut authority) = (Ok(()), verify(verifier, chain, now));
        let unexpired = match &self.unexpired {
            Some(unexpired) => verify(unexpired.as_deref(), chain, now),
            None => Ok(()),
        };
        if matches!(&authority, Err(error) if is_of_time(error)) {
            time = authority;
            authority = match valid_time(chain) {
                Some(valid) => verify(verifier, chain, valid),
                None => Ok(()),
            };
        }
        let name = match chain.first().map(ParsedCertificate::try_from) {
            Some(Ok(server)) => verify_server_name(&server, name),
            Some(Err(error)) => Err(error),
            None => Err(rustls::Error::NoCertificatesPresented),
        };
        Verification {
            time,
            authority,
            unexpired,
            name,
        }
    }
}

/// Verifies everything but the name.
fn verify(
    verifier: Option<&WebPkiServerVerifier>,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let unknown = || rustls::Error::from(CertificateError::UnknownIssuer);
    let verifier = verifier.ok_or_else(unknown)?;
    let (server, intermediates) = chain.split_first().ok_or_else(unknown)?;
    // Any name: its own result does not count here.
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    match verifier.verify_server_cert(server, intermediates, &name, &[], now) {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        verified => verified.map(drop),
    }
}

fn is_of_time(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

/// Returns a time at which all certificates are valid.
fn valid_time(chain: &[CertificateDer<'_>]) -> Option<UnixTime> {
    let parsed: Vec<_> = chain.iter().filter_map(Certificate::parse).collect();
    let first = parsed.iter().map(|certificate| certificate.not_before);
    let last = parsed.iter().map(|certificate| certificate.not_after);
    let (first, last) = (first.max()?, last.min()?);
    let since = first.duration_since(UNIX_EPOCH).ok()?;
    (first <= last).then(|| UnixTime::since_unix_epoch(since))
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let verdict = self.verdict(&chain, server_name, now);
        *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain, verdict));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto
            .signature_verification_algorithms
            .supported_schemes()
    }
}
