//! The way to a server: address, port and TLS.

use claviger::Credentials;
use claviger::lease::Timestamp;
use claviger_config::{Connection, Engine, TlsMode};

use super::certificate::{Certificate, read_authorities, unexpired};
use super::credential::{shown, shown_user};
use super::found::Found;
use super::handshake::{Handshake, Secured};
use super::login::{self, LoginError, LoginFacts, ServerError};
use super::network::{
    Attempts, Connected, Lookup, Reached, Stream, connect, connect_finding, connect_local, look_up,
    lookup_finding, open, skipped_finding,
};
use super::tls::{self, TlsFacts};
use super::{greeting, handshake};
use crate::finding::{Finding, Step, one_line};
use crate::place::Place;

/// A stream to the server, and what it showed.
pub(super) struct Line {
    pub(super) stream: Box<dyn Stream>,
    pub(super) has_tls: bool,
}

/// Looks up the host and connects to its port.
pub(super) async fn reach(
    connection: &Connection,
    place: &Place,
    found: &mut Found<'_>,
) -> Option<Box<dyn Stream>> {
    let (host, port) = (&place.host, place.port);
    let reached = if host.starts_with('/') {
        connect_local(host, port).await
    } else {
        let lookup = look_up(host, port).await;
        found.add(lookup_finding(host, &lookup))?;
        match lookup {
            Lookup::Addresses(addresses) => connect(&addresses).await,
            _ => return None,
        }
    };
    if let Reached::Connected(connected) = &reached
        && let Some(finding) = skipped_finding(attempts(connection), connected)
    {
        found.add(finding)?;
    }
    found.add(connect_finding(host, port, &reached))?;
    match reached {
        Reached::Connected(Connected { stream, .. }) | Reached::Local(stream) => Some(stream),
        Reached::Failed(_) | Reached::NoSocket(..) => None,
    }
}

/// Returns how the pool's driver tries the addresses of a host.
pub(super) fn attempts(connection: &Connection) -> Attempts {
    match connection.engine() {
        Engine::Redis => Attempts::AllAtOnce,
        _ if connection.uses_tokio_postgres() => Attempts::NextAfterTimeout,
        _ => Attempts::OneByOne,
    }
}

/// Completes a handshake, if the pool uses TLS. An error that the server returns before is judged
/// as that of a login.
pub(super) async fn secure(
    connection: &Connection,
    place: &Place,
    stream: Box<dyn Stream>,
    credentials: &Credentials,
    found: &mut Found<'_>,
) -> Option<Line> {
    let mode = connection.tls_mode();
    let is_socket = place.host.starts_with('/');
    let parse = |certificates: &[_]| -> Vec<Certificate> {
        certificates.iter().filter_map(Certificate::parse).collect()
    };
    let mut authorities = Vec::new();
    let handshake = if mode == TlsMode::Disable || is_socket {
        handshake::without_tls(connection, stream).await
    } else {
        let of_file = match connection.ca_file().map(read_authorities).transpose() {
            Ok(authorities) => authorities.unwrap_or_default(),
            Err(reason) => {
                found.add(unreadable(&reason))?;
                return None;
            }
        };
        authorities = parse(&of_file);
        // A certificate that cannot be parsed is not known to be expired.
        let unexpired = match authorities.len() == of_file.len() {
            true => unexpired(&authorities, Timestamp::now().wall()),
            false => vec![true; of_file.len()],
        };
        let roots = match handshake::roots(connection, &of_file, &unexpired) {
            Ok(roots) => roots,
            Err(error) => {
                found.add(unreadable(&format!("an invalid CA certificate: {error}")))?;
                return None;
            }
        };
        handshake::handshake(connection, &place.host, stream, roots).await
    };
    let finding = match handshake {
        Handshake::Plain(stream) => {
            found.add(match is_socket {
                true => tls::socket_finding(),
                false => tls::plain_finding(mode),
            })?;
            return Some(Line {
                stream,
                has_tls: false,
            });
        }
        Handshake::Secured(secured) => {
            let Secured { stream, seen } = *secured;
            let finding = tls::tls_finding(&TlsFacts {
                host: &place.host,
                mode,
                always_verifies: connection.uses_tokio_postgres(),
                version: &seen.version,
                chain: &parse(&seen.chain),
                verdict: &seen.verdict,
                authorities: &authorities,
                now: Timestamp::now().wall(),
            });
            let is_accepted = finding.cause == Some("expired_authority");
            if found.add(finding).is_none() && !is_accepted {
                return None;
            }
            return Some(Line {
                stream,
                has_tls: true,
            });
        }
        Handshake::Rejected(error) => rejected(connection, place, credentials, error),
        Handshake::OtherProtocol(other) if other.is_tls() => {
            tls::expected_finding(connection.engine())
        }
        Handshake::OtherProtocol(other) => {
            tls::other_protocol_finding(Step::Tls, &other.to_string())
        }
        Handshake::Closed | Handshake::TimedOut if responds_with_tls(connection, place).await => {
            tls::expected_finding(connection.engine())
        }
        _ if responds_in_plain(connection, place).await => tls::plain_finding(mode),
        Handshake::Closed => greeting::closed_finding(Step::Tls),
        Handshake::TimedOut => greeting::silent_finding(Step::Tls),
        Handshake::ClientFiles(files) => tls::client_files_finding(&files),
        Handshake::TlsError(error, chain) => {
            let has_client_certificate = connection.client_certificate().is_some();
            tls::error_finding(&error, &parse(&chain), has_client_certificate)
        }
        Handshake::Failed(reason) => tls::failed_finding(&reason),
    };
    found.add(finding)?;
    None
}

fn unreadable(reason: &str) -> Finding {
    Finding::problem(Step::Tls, "unreadable_ca_file", one_line(reason))
        .with_next("set `ca_file` to a PEM file of CA certificates that this user can read")
}

fn rejected(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
    error: ServerError,
) -> Finding {
    let user = shown_user(credentials);
    let database = shown(credentials, place.database.as_deref().unwrap_or(&user));
    let facts = LoginFacts {
        user: &user,
        database: &database,
        is_token: credentials.is_token(),
        has_tls: false,
        has_client_certificate: false,
        pooler: None,
        method: None,
    };
    let error = LoginError::Server(error);
    login::failed_finding(connection.engine(), &facts, &error, credentials)
}

/// Returns whether a server of Redis, which did not complete a handshake, responds without TLS.
async fn responds_in_plain(connection: &Connection, place: &Place) -> bool {
    if connection.engine() != Engine::Redis {
        return false;
    }
    match open(&place.host, place.port).await {
        Some(stream) => handshake::redis_responds_in_plain(stream).await,
        None => false,
    }
}

/// Returns whether a server, which did not respond in the protocol of the pool, responds with TLS.
pub(super) async fn responds_with_tls(connection: &Connection, place: &Place) -> bool {
    let Some(stream) = open(&place.host, place.port).await else {
        return false;
    };
    handshake::responds_with_tls(connection, &place.host, stream).await
}
