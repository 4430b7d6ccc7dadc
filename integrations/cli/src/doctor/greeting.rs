//! What a PostgreSQL server or pooler shows in response to a startup message, before a login.

use std::io;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::login::{LoginError, ServerError};
use super::network::Stream;
use super::protocol::{OtherProtocol, is_mysql};
use crate::finding::{Finding, Step, one_line};

/// Longest time of the probe.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest message that is read.
const LONGEST_MESSAGE: usize = 8_192;

/// Length of the head of a message.
const HEAD: usize = 5;
/// Longest message of a startup, as in libpq. An error of a server before 7.4 has no length.
const LONGEST_OF_STARTUP: u32 = 30_000;
/// Longest part of a response that is read to recognize the protocol.
const LONGEST_BEGINNING: usize = 512;

/// Parameter that no pooler knows. PostgreSQL examines parameters after the login, PgBouncer
/// before.
const PROBE: &str = "claviger.probe";

/// Beginnings of PgBouncer's own errors before a login. PostgreSQL has none of them.
const OF_PGBOUNCER: [&str; 4] = [
    "unsupported startup parameter",
    "no more connections allowed",
    "no such database",
    "SSL required",
];

/// What a server showed in response to a startup message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// PgBouncer, and its error if that is not about the parameter of the probe.
    PgBouncer(Option<ServerError>),
    /// The server requests an authentication by this method.
    Requests(Method),
    /// The server requested no authentication, and completed the login.
    LoggedIn,
    /// The server rejects the startup, or the login without a password.
    Error(ServerError),
    /// The connection was closed without a response.
    Closed,
    /// There was no response in time.
    Silent,
    /// The server ended TLS: it does not accept the client's certificate, or requires one.
    TlsAlert(AlertDescription),
    /// What responds is no server of PostgreSQL.
    OtherProtocol(OtherProtocol),
    Unknown,
}

/// Method of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A password in clear, as PAM needs it: IAM tokens.
    Clear,
    /// `md5` or `scram-sha-256`.
    Hashed,
    Other,
}

impl Greeting {
    pub(super) fn method(&self) -> Option<Method> {
        match self {
            Self::Requests(method) => Some(*method),
            _ => None,
        }
    }
}

/// Sends a startup message, and reads the response. No password follows. A server that requests
/// none completes the login: the rest of its response is read, too.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn greet(stream: &mut dyn Stream, user: &str, database: &str) -> Greeting {
    let mut has_responded = false;
    let exchange = exchange(stream, user, database, &mut has_responded);
    match timeout(TIMEOUT, exchange).await {
        Ok(Ok(greeting)) => greeting,
        Ok(Err(error)) => of_error(&error, has_responded),
        // The pool's own login shows more.
        Err(_) if has_responded => Greeting::Unknown,
        Err(_) => Greeting::Silent,
    }
}

fn of_error(error: &io::Error, has_responded: bool) -> Greeting {
    match LoginError::of_io(error) {
        LoginError::TlsAlert(alert) => Greeting::TlsAlert(alert),
        LoginError::Closed if !has_responded => Greeting::Closed,
        _ => Greeting::Unknown,
    }
}

async fn exchange(
    stream: &mut dyn Stream,
    user: &str,
    database: &str,
    has_responded: &mut bool,
) -> io::Result<Greeting> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, PROBE, "1"] {
        body.extend(text.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend(body);
    stream.write_all(&message).await?;
    stream.flush().await?;
    let sent = beginning(stream).await?;
    *has_responded = true;
    match sent.as_slice() {
        [b'E', text @ ..]
            if stated_length(&sent) >= LONGEST_OF_STARTUP && !text.starts_with(&[0]) =>
        {
            return Ok(Greeting::Error(early_error(text)));
        }
        sent if !is_response(sent) => {
            return Ok(Greeting::OtherProtocol(OtherProtocol::new(
                "PostgreSQL",
                sent,
            )));
        }
        _ => {}
    }
    let mut responses = sent.chain(stream);
    loop {
        let (kind, body) = read_message(&mut responses).await?;
        if let Some(greeting) = parse(kind, &body) {
            return Ok(greeting);
        }
    }
}

/// Reads what a server sends first: a head of a message at least, unless it sends less.
async fn beginning(stream: &mut dyn Stream) -> io::Result<Vec<u8>> {
    let mut sent = vec![0; LONGEST_BEGINNING];
    let mut read = 0;
    while read < HEAD {
        match stream.read(&mut sent[read..]).await? {
            0 if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            more => read += more,
        }
    }
    sent.truncate(read);
    Ok(sent)
}

/// Returns the length in the head of a message. 0 if there is none.
fn stated_length(sent: &[u8]) -> u32 {
    let length = sent.get(1..HEAD).and_then(|length| length.try_into().ok());
    length.map(u32::from_be_bytes).unwrap_or_default()
}

/// Returns whether a response to a startup message begins so.
fn is_response(sent: &[u8]) -> bool {
    let is_known = sent.first().is_some_and(|kind| b"REKSNZv".contains(kind));
    is_known && stated_length(sent) < LONGEST_OF_STARTUP && !is_mysql(sent)
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
    let mut body = vec![0; length.saturating_sub(4).min(LONGEST_MESSAGE)];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

/// Parses a message. `None` if another one follows.
fn parse(kind: u8, body: &[u8]) -> Option<Greeting> {
    Some(match kind {
        b'R' => {
            let code = body.get(..4).and_then(|code| code.try_into().ok());
            Greeting::Requests(match code.map(u32::from_be_bytes) {
                // No password is needed. An error may follow.
                Some(0) => return None,
                Some(3) => Method::Clear,
                Some(5 | 10) => Method::Hashed,
                _ => Method::Other,
            })
        }
        // The server is ready for statements.
        b'Z' => Greeting::LoggedIn,
        // Parameters, the key for cancellation, notices.
        b'S' | b'K' | b'N' => return None,
        b'E' => of_server(error(body)),
        _ => Greeting::Unknown,
    })
}

fn error(body: &[u8]) -> ServerError {
    let field = |wanted: u8| {
        body.split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&wanted))
            .map(|field| one_line(&String::from_utf8_lossy(&field[1..])))
    };
    ServerError::new(
        field(b'C').unwrap_or_default(),
        field(b'M').unwrap_or_default(),
    )
    .with_routine(field(b'R'))
}

/// Parses the text after the first byte of an error that precedes TLS: in the protocol of today, or
/// as text alone.
pub(super) fn early_error(text: &[u8]) -> ServerError {
    if text.first() == Some(&0) {
        return error(text.get(4..).unwrap_or_default());
    }
    let text = String::from_utf8_lossy(text);
    ServerError::new("", one_line(text.trim_matches('\0')))
}

fn of_server(error: ServerError) -> Greeting {
    let is_of_probe = error.message.contains(PROBE);
    let mut known = OF_PGBOUNCER.iter();
    // PostgreSQL names a routine with each error.
    let is_pgbouncer = error.routine.is_none() && error.code == "08P01" && !is_of_probe;
    if is_pgbouncer || known.any(|text| error.message.starts_with(text)) {
        Greeting::PgBouncer((!is_of_probe).then_some(error))
    } else if is_of_probe {
        // Another pooler, which the pool's own login does not disturb.
        Greeting::Unknown
    } else {
        Greeting::Error(error)
    }
}

/// Returns the finding for a connection that was closed without a response.
pub(super) fn closed_finding(step: Step) -> Finding {
    Finding::problem(
        step,
        "closed_at_once",
        "the connection was accepted, and closed without a response",
    )
    .with_next(
        "a load balancer or proxy without a healthy server behind it does this: check its targets, \
         and that its port leads to the database",
    )
    .with_next(
        "or the server does not accept this machine's address, or is of another kind than the \
         pool: see its log",
    )
}

/// Returns the finding for a connection without a response.
pub(super) fn silent_finding(step: Step) -> Finding {
    Finding::problem(
        step,
        "no_response",
        "the connection was accepted, but the server sends nothing",
    )
    .with_next(
        "check that `host` and `port` are those of the database: a server of another kind waits \
         for its client",
    )
    .with_next("check whether the server hangs, and firewalls or proxies that drop what follows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbouncer_shows_by_a_parameter_that_it_does_not_know() {
        let body = b"SFATAL\0C08P01\0Munsupported startup parameter: claviger.probe\0\0";
        assert_eq!(parse(b'E', body), Some(Greeting::PgBouncer(None)));
        let body = b"SFATAL\0C08P01\0Mno more connections allowed (max_client_conn)\0\0";
        let text = "no more connections allowed (max_client_conn)";
        let full = ServerError::new("08P01", text);
        assert_eq!(parse(b'E', body), Some(Greeting::PgBouncer(Some(full))));
        let body = b"SFATAL\0C0A000\0Mno option claviger.probe\0\0";
        assert_eq!(parse(b'E', body), Some(Greeting::Unknown));
    }

    #[test]
    fn an_error_keeps_its_routine() {
        let body = b"SFATAL\0C28000\0Mkein pg_hba.conf-Eintrag\0RClientAuthentication\0\0";
        let error = ServerError::new("28000", "kein pg_hba.conf-Eintrag")
            .with_routine(Some("ClientAuthentication".to_owned()));
        assert_eq!(parse(b'E', body), Some(Greeting::Error(error)));
    }

    #[test]
    fn the_method_of_the_authentication_is_read() {
        let method = |code: u32| parse(b'R', &code.to_be_bytes());
        assert_eq!(method(3), Some(Greeting::Requests(Method::Clear)));
        assert_eq!(method(10), Some(Greeting::Requests(Method::Hashed)));
        assert_eq!(method(0), None);
        assert_eq!(parse(b'R', b""), Some(Greeting::Requests(Method::Other)));
        assert_eq!(parse(b'Z', b"I"), Some(Greeting::LoggedIn));
        assert_eq!(parse(b'x', b""), Some(Greeting::Unknown));
    }
}
