//! One TLS handshake, without a login. The verification's result is recorded, not enforced.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claviger_config::{Connection, Engine};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::network::Stream;
use crate::finding::one_line;

/// Longest time of a handshake.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Request for TLS in PostgreSQL's protocol.
const POSTGRES_SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Flags in MySQL's protocol.
const MYSQL_SSL: u16 = 0x800;
const MYSQL_ERROR: u8 = 0xff;

/// Result of a handshake.
pub(super) enum Handshake {
    /// The server does not support TLS. The stream can be used.
    Plain(Box<dyn Stream>),
    /// The handshake was not completed, or the server returned an error before.
    Failed(String),
    /// The handshake was completed.
    Secured(Secured),
}

/// A completed handshake.
pub(super) struct Secured {
    pub(super) stream: Box<dyn Stream>,
    pub(super) seen: Seen,
}

/// What the handshake showed.
pub(super) struct Seen {
    /// The server's certificate, then those that it sent beside it.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Result of the verification for this host.
    pub(super) verdict: Result<(), rustls::Error>,
    /// Such as `TLSv1_3`.
    pub(super) version: String,
}

/// Returns the authorities that the pool's driver trusts. sqlx contains those of Mozilla, and adds
/// the file's. The other kinds read those of the platform.
pub(super) fn roots(connection: &Connection, of_file: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if matches!(connection.kind(), "postgres" | "mysql") {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else if of_file.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    roots.add_parsable_certificates(of_file.iter().cloned());
    roots
}

/// Requests TLS as the protocol requires, and completes one handshake.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn handshake(
    connection: &Connection,
    host: &str,
    stream: Box<dyn Stream>,
    roots: RootCertStore,
) -> Handshake {
    match timeout(TIMEOUT, secure(connection, host, stream, roots)).await {
        Ok(Ok(handshake)) => handshake,
        Ok(Err(error)) => Handshake::Failed(one_line(&error.to_string())),
        Err(_) => Handshake::Failed("no response within 10 s".to_owned()),
    }
}

async fn secure(
    connection: &Connection,
    host: &str,
    mut stream: Box<dyn Stream>,
    roots: RootCertStore,
) -> io::Result<Handshake> {
    let supported = match connection.engine() {
        Engine::Postgres => request_postgres(&mut stream).await?,
        Engine::Mysql => request_mysql(&mut stream).await?,
        _ => true,
    };
    if !supported {
        return Ok(Handshake::Plain(stream));
    }
    let recorder = Arc::new(Recorder::new(roots));
    let config = client_config(connection, Arc::clone(&recorder)).map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let version = stream.get_ref().1.protocol_version();
    let version = version
        .and_then(|version| version.as_str())
        .unwrap_or("TLS");
    let recorded = recorder.recorded.lock();
    let (chain, verdict) = recorded
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .unwrap_or_else(|| (Vec::new(), Err(rustls::Error::NoCertificatesPresented)));
    Ok(Handshake::Secured(Secured {
        seen: Seen {
            chain,
            verdict,
            version: version.to_owned(),
        },
        stream: Box::new(stream),
    }))
}

async fn request_postgres(stream: &mut Box<dyn Stream>) -> io::Result<bool> {
    stream.write_all(&POSTGRES_SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::other(
            "the server does not respond as PostgreSQL",
        )),
    }
}

async fn request_mysql(stream: &mut Box<dyn Stream>) -> io::Result<bool> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    let mut greeting = vec![0; length.min(4_096)];
    stream.read_exact(&mut greeting).await?;
    if greeting.first() == Some(&MYSQL_ERROR) {
        // Code, then the text.
        let text = String::from_utf8_lossy(greeting.get(3..).unwrap_or_default()).into_owned();
        return Err(io::Error::other(text));
    }
    // Protocol, version with its zero byte, connection id, 8 bytes of a nonce, filler, flags.
    let version = greeting.iter().skip(1).position(|byte| *byte == 0);
    let at = 1 + version.unwrap_or_default() + 1 + 4 + 8 + 1;
    let flags = match greeting.get(at..at + 2) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => return Err(io::Error::other("the server does not respond as MySQL")),
    };
    if flags & MYSQL_SSL == 0 {
        return Ok(false);
    }
    let mut request = vec![32, 0, 0, head[3].wrapping_add(1)];
    // Long password, protocol 4.1, TLS, secure connection, plug-ins.
    request.extend((1_u32 | 0x200 | 0x800 | 0x8000 | 0x8_0000).to_le_bytes());
    request.extend(0x100_0000_u32.to_le_bytes());
    request.push(45);
    request.extend([0; 23]);
    stream.write_all(&request).await?;
    Ok(true)
}

fn client_config(connection: &Connection, recorder: Arc<Recorder>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&recorder.crypto))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(recorder);
    let Some((certificate, key)) = connection.client_certificate() else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = super::certificate::read_authorities(certificate)?;
    // The parser's error may contain a part of the key.
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| format!("{}: no private key can be read", key.display()))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client's certificate and key do not match: {error}"))
}

type Recorded = (Vec<CertificateDer<'static>>, Result<(), rustls::Error>);

/// Accepts every certificate and records the result of its verification. No secret is sent over
/// the connection before the result is checked.
#[derive(Debug)]
struct Recorder {
    crypto: Arc<CryptoProvider>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
    recorded: Mutex<Option<Recorded>>,
}

impl Recorder {
    fn new(roots: RootCertStore) -> Self {
        let crypto = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&crypto));
        Self {
            crypto,
            // Without any authority there is no verifier.
            verifier: verifier.build().ok(),
            recorded: Mutex::new(None),
        }
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = match &self.verifier {
            Some(verifier) => verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(drop),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        };
        let chain = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
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
