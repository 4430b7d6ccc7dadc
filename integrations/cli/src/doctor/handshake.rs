//! One TLS handshake, without a login. The verification's result is recorded, not enforced.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use claviger_config::{Connection, Engine};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::greeting;
use super::login::{LoginError, ServerError};
use super::network::{self, Stream};
use super::protocol::{OtherProtocol, is_mysql};
use super::verification::{Recorder, Roots, Verification};
use crate::finding::one_line;

/// Longest time of a handshake.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Request for TLS in PostgreSQL's protocol.
const POSTGRES_SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Flags in MySQL's protocol.
const MYSQL_SSL: u16 = 0x800;
const MYSQL_ERROR: u8 = 0xff;
/// Longest first message of a MySQL server.
const LONGEST_GREETING: usize = 4_096;
/// Longest text of an error before TLS that is read.
const LONGEST_ERROR: usize = 512;

/// Result of a handshake.
pub(super) enum Handshake {
    /// The server does not support TLS. The stream can be used.
    Plain(Box<dyn Stream>),
    /// The server returned an error before TLS.
    Rejected(ServerError),
    /// The connection was closed without a response.
    Closed,
    /// There was no response in time.
    TimedOut,
    /// What responds is no server of this kind.
    OtherProtocol(OtherProtocol),
    /// The client's certificate or key, which the settings name, cannot be used.
    ClientFiles(ClientFiles),
    /// TLS ended with an error. The certificates are those that the server sent before.
    TlsError(rustls::Error, Vec<CertificateDer<'static>>),
    /// The handshake was not completed.
    Failed(String),
    /// The handshake was completed.
    Secured(Box<Secured>),
}

/// Why the client's certificate or key cannot be used.
pub(super) enum ClientFiles {
    /// A file cannot be read, or contains no certificate or key that is known.
    Unreadable(String),
    /// The key is that of another certificate.
    Mismatch,
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
    pub(super) verdict: Verification,
    /// Such as `TLSv1_3`.
    pub(super) version: String,
}

/// Returns the authorities that the pool's driver trusts. sqlx contains those of Mozilla, and adds
/// the file's. The others trust the file's, or without a file those of the platform. `unexpired`
/// shows which of the file are not expired.
///
/// # Errors
/// A certificate of the file is not valid as an authority.
pub(super) fn roots(
    connection: &Connection,
    of_file: &[CertificateDer<'static>],
    unexpired: &[bool],
) -> Result<Roots, rustls::Error> {
    let mut own = RootCertStore::empty();
    if matches!(connection.kind(), "postgres" | "mysql") {
        own.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else if of_file.is_empty() {
        own = claviger_tokio_postgres::platform_roots().0;
    }
    let (mut all, mut rest) = (own.clone(), own);
    for (authority, is_unexpired) in of_file.iter().zip(unexpired) {
        all.add(authority.clone())?;
        if *is_unexpired {
            rest.add(authority.clone())?;
        }
    }
    let unexpired = (rest.len() < all.len()).then_some(rest);
    Ok(Roots { all, unexpired })
}

/// Requests TLS as the protocol requires, and completes one handshake.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn handshake(
    connection: &Connection,
    host: &str,
    stream: Box<dyn Stream>,
    roots: Roots,
) -> Handshake {
    let mut has_responded = false;
    let secure = secure(connection, host, stream, roots, &mut has_responded);
    let handshake = match timeout(TIMEOUT, secure).await {
        Ok(Ok(handshake)) => handshake,
        Ok(Err(error)) => of_error(&error),
        Err(_) => Handshake::TimedOut,
    };
    match handshake {
        Handshake::Closed if has_responded => Handshake::Failed("closed by the server".to_owned()),
        Handshake::TimedOut if has_responded => {
            Handshake::Failed("not completed within 10 s".to_owned())
        }
        other => other,
    }
}

/// Reads what a MySQL server sends first, for a connection without TLS.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn without_tls(connection: &Connection, mut stream: Box<dyn Stream>) -> Handshake {
    if connection.engine() != Engine::Mysql {
        return Handshake::Plain(stream);
    }
    match timeout(TIMEOUT, read_mysql(&mut stream)).await {
        Ok(Ok(Ok(_))) => Handshake::Plain(stream),
        Ok(Ok(Err(error))) => Handshake::Rejected(error),
        Ok(Err(error)) => of_error(&error),
        Err(_) => Handshake::TimedOut,
    }
}

fn of_error(error: &io::Error) -> Handshake {
    match LoginError::of_io(error) {
        LoginError::OtherProtocol(other) => Handshake::OtherProtocol(other),
        LoginError::Closed => Handshake::Closed,
        _ => Handshake::Failed(one_line(&error.to_string())),
    }
}

/// Returns whether a server of Redis responds without TLS.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn redis_responds_in_plain(mut stream: Box<dyn Stream>) -> bool {
    let exchange = async {
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await
    };
    matches!(timeout(TIMEOUT, exchange).await, Ok(Ok(b'+' | b'-')))
}

/// Returns whether a server responds with TLS, without any negotiation in its own protocol.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn responds_with_tls(
    connection: &Connection,
    host: &str,
    stream: Box<dyn Stream>,
) -> bool {
    let roots = Roots {
        all: RootCertStore::empty(),
        unexpired: None,
    };
    let handshake = complete(connection, host, stream, roots);
    matches!(
        timeout(network::TIMEOUT, handshake).await,
        Ok(Ok(
            Handshake::Secured(_) | Handshake::TlsError(rustls::Error::AlertReceived(_), _)
        ))
    )
}

async fn secure(
    connection: &Connection,
    host: &str,
    mut stream: Box<dyn Stream>,
    roots: Roots,
    has_responded: &mut bool,
) -> io::Result<Handshake> {
    let supported = match connection.engine() {
        Engine::Postgres => request_postgres(&mut stream).await?,
        Engine::Mysql => request_mysql(&mut stream).await?,
        _ => Ok(true),
    };
    *has_responded = connection.engine() != Engine::Redis;
    match supported {
        Ok(true) => {}
        Ok(false) => return Ok(Handshake::Plain(stream)),
        Err(error) => return Ok(Handshake::Rejected(error)),
    }
    complete(connection, host, stream, roots).await
}

/// Completes a handshake with a server that expects it now.
async fn complete(
    connection: &Connection,
    host: &str,
    stream: Box<dyn Stream>,
    roots: Roots,
) -> io::Result<Handshake> {
    let recorder = Arc::new(Recorder::new(roots));
    let config = match client_config(connection, Arc::clone(&recorder)) {
        Ok(config) => config,
        Err(files) => return Ok(Handshake::ClientFiles(files)),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = match connector.connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => {
            let tls = error.get_ref().and_then(|error| error.downcast_ref());
            let Some(tls) = tls.cloned() else {
                return Err(error);
            };
            let sent = recorder.take().map(|(chain, _)| chain);
            return Ok(Handshake::TlsError(tls, sent.unwrap_or_default()));
        }
    };
    let version = stream.get_ref().1.protocol_version();
    let version = version
        .and_then(|version| version.as_str())
        .unwrap_or("TLS");
    let Some((chain, verdict)) = recorder.take() else {
        let error = rustls::Error::NoCertificatesPresented;
        return Ok(Handshake::Failed(error.to_string()));
    };
    Ok(Handshake::Secured(Box::new(Secured {
        seen: Seen {
            chain,
            verdict,
            version: version.to_owned(),
        },
        stream: Box::new(stream),
    })))
}

/// Whether the server supports TLS, or its error.
type Supported = Result<bool, ServerError>;

async fn request_postgres(stream: &mut Box<dyn Stream>) -> io::Result<Supported> {
    stream.write_all(&POSTGRES_SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(Ok(true)),
        b'N' => Ok(Ok(false)),
        first => {
            let mut text = vec![first; LONGEST_ERROR];
            let length = 1 + stream.read(&mut text[1..]).await?;
            if first == b'E' && !is_mysql(&text[..length]) {
                return Ok(Err(greeting::early_error(&text[1..length])));
            }
            Err(OtherProtocol::new("PostgreSQL", &text[..length]).into())
        }
    }
}

/// Returns the flags and the next sequence number of a server's first message, or its error.
async fn read_mysql(stream: &mut Box<dyn Stream>) -> io::Result<Result<(u16, u8), ServerError>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if head[3] != 0 || length > LONGEST_GREETING {
        return Err(OtherProtocol::new("MySQL", &head).into());
    }
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting).await?;
    if let [MYSQL_ERROR, low, high, text @ ..] = greeting.as_slice() {
        // A marker and the SQLSTATE may precede the text.
        let text = match text {
            [b'#', _, _, _, _, _, text @ ..] => text,
            text => text,
        };
        let number = u16::from_le_bytes([*low, *high]).to_string();
        let text = one_line(&String::from_utf8_lossy(text));
        return Ok(Err(ServerError::new(number, text)));
    }
    // Protocol, version with its zero byte, connection id, 8 bytes of a nonce, filler, flags.
    let version = greeting.iter().skip(1).position(|byte| *byte == 0);
    let at = 1 + version.unwrap_or_default() + 1 + 4 + 8 + 1;
    match greeting.get(at..at + 2) {
        Some(&[low, high]) => Ok(Ok((
            u16::from_le_bytes([low, high]),
            head[3].wrapping_add(1),
        ))),
        _ => Err(OtherProtocol::new("MySQL", &greeting).into()),
    }
}

async fn request_mysql(stream: &mut Box<dyn Stream>) -> io::Result<Supported> {
    let (flags, sequence) = match read_mysql(stream).await? {
        Ok(greeting) => greeting,
        Err(error) => return Ok(Err(error)),
    };
    if flags & MYSQL_SSL == 0 {
        return Ok(Ok(false));
    }
    let mut request = vec![32, 0, 0, sequence];
    // Long password, protocol 4.1, TLS, secure connection, plug-ins.
    request.extend((1_u32 | 0x200 | 0x800 | 0x8000 | 0x8_0000).to_le_bytes());
    request.extend(0x100_0000_u32.to_le_bytes());
    request.push(45);
    request.extend([0; 23]);
    stream.write_all(&request).await?;
    Ok(Ok(true))
}

fn client_config(
    connection: &Connection,
    recorder: Arc<Recorder>,
) -> Result<ClientConfig, ClientFiles> {
    let unreadable = |error: rustls::Error| ClientFiles::Unreadable(error.to_string());
    let builder = ClientConfig::builder_with_provider(recorder.crypto())
        .with_safe_default_protocol_versions()
        .map_err(unreadable)?
        .dangerous()
        .with_custom_certificate_verifier(recorder);
    let Some((certificate, key)) = connection.client_certificate() else {
        return Ok(builder.with_no_client_auth());
    };
    let chain =
        super::certificate::read_authorities(certificate).map_err(ClientFiles::Unreadable)?;
    // The parser's error may contain a part of the key.
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| {
        let reason = format!("{}: no private key can be read", key.display());
        ClientFiles::Unreadable(reason)
    })?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => ClientFiles::Mismatch,
            error => unreadable(error),
        })
}
