//! Poolers and proxies in front of PostgreSQL, and the authentication that the server requests.
//! Both show before a login.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::network::Stream;
use crate::finding::{Finding, Step, one_line};

/// Longest time of the probe.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest message that is read.
const LONGEST_MESSAGE: usize = 8_192;

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
    PgBouncer,
    /// The server requests an authentication by this method.
    Requests(Method),
    /// The server rejects the startup: SQLSTATE and message.
    Error(String, String),
    Unknown,
}

/// Method of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Nothing: `trust`, `cert` or `peer`.
    Nothing,
    /// A password in clear, as PAM needs it: IAM tokens.
    Clear,
    /// `md5` or `scram-sha-256`.
    Hashed,
    Other,
}

/// Pooler or proxy in front of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooler {
    PgBouncer,
    RdsProxy,
}

/// Sends a startup message and reads one response. No authentication follows, so no login fails.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn greet(stream: &mut dyn Stream, user: &str, database: &str) -> Greeting {
    match timeout(TIMEOUT, exchange(stream, user, database)).await {
        Ok(Ok((kind, body))) => parse(kind, &body),
        _ => Greeting::Unknown,
    }
}

async fn exchange(
    stream: &mut dyn Stream,
    user: &str,
    database: &str,
) -> io::Result<(u8, Vec<u8>)> {
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
    let kind = stream.read_u8().await?;
    let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
    let mut body = vec![0; length.saturating_sub(4).min(LONGEST_MESSAGE)];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn parse(kind: u8, body: &[u8]) -> Greeting {
    match kind {
        b'R' => {
            let code = body.get(..4).and_then(|code| code.try_into().ok());
            Greeting::Requests(match code.map(u32::from_be_bytes) {
                Some(0) => Method::Nothing,
                Some(3) => Method::Clear,
                Some(5 | 10) => Method::Hashed,
                _ => Method::Other,
            })
        }
        b'E' => {
            let field = |wanted: u8| {
                body.split(|byte| *byte == 0)
                    .find(|field| field.first() == Some(&wanted))
                    .map(|field| one_line(&String::from_utf8_lossy(&field[1..])))
                    .unwrap_or_default()
            };
            let (code, message) = (field(b'C'), field(b'M'));
            if OF_PGBOUNCER.iter().any(|text| message.starts_with(text)) {
                Greeting::PgBouncer
            } else {
                Greeting::Error(code, message)
            }
        }
        _ => Greeting::Unknown,
    }
}

/// Returns the pooler that the greeting or the host's name shows.
pub(super) fn pooler(host: &str, greeting: &Greeting) -> Option<Pooler> {
    let is_proxy = host.contains(".proxy-") && host.contains(".rds.");
    match greeting {
        Greeting::PgBouncer => Some(Pooler::PgBouncer),
        _ if is_proxy => Some(Pooler::RdsProxy),
        _ => None,
    }
}

pub(super) fn pooler_finding(pooler: Pooler) -> Finding {
    match pooler {
        Pooler::PgBouncer => Finding::note(
            Step::Pooler,
            "pgbouncer",
            "PgBouncer is in front of the database: it authenticates by its own list of users",
        ),
        Pooler::RdsProxy => Finding::note(
            Step::Pooler,
            "rds_proxy",
            "RDS Proxy is in front of the database: it logs in with the secrets given to it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbouncer_shows_by_a_parameter_that_it_does_not_know() {
        let body = b"SFATAL\0C08P01\0Munsupported startup parameter: claviger.probe\0\0";
        assert_eq!(parse(b'E', body), Greeting::PgBouncer);
        assert_eq!(pooler("db", &Greeting::PgBouncer), Some(Pooler::PgBouncer));
        let body = b"SFATAL\0C08P01\0Mno more connections allowed (max_client_conn)\0\0";
        assert_eq!(parse(b'E', body), Greeting::PgBouncer);
        let body = b"SFATAL\0C28000\0Mno pg_hba.conf entry\0\0";
        let error = Greeting::Error("28000".into(), "no pg_hba.conf entry".into());
        assert_eq!(parse(b'E', body), error);
    }

    #[test]
    fn the_method_of_the_authentication_is_read() {
        let method = |code: u32| parse(b'R', &code.to_be_bytes());
        assert_eq!(method(3), Greeting::Requests(Method::Clear));
        assert_eq!(method(10), Greeting::Requests(Method::Hashed));
        assert_eq!(method(0), Greeting::Requests(Method::Nothing));
        assert_eq!(parse(b'R', b""), Greeting::Requests(Method::Other));
        assert_eq!(parse(b'x', b""), Greeting::Unknown);
    }

    #[test]
    fn rds_proxy_shows_by_its_name() {
        let proxy = "orders.proxy-c1a2b3.us-west-2.rds.amazonaws.com";
        assert_eq!(pooler(proxy, &Greeting::Unknown), Some(Pooler::RdsProxy));
        let instance = "orders.c1a2b3.us-west-2.rds.amazonaws.com";
        assert_eq!(pooler(instance, &Greeting::Unknown), None);
    }
}
