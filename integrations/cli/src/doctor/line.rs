//! The way to a server: address, port and TLS.

use claviger::lease::Timestamp;
use claviger_config::{Connection, TlsMode};

use super::certificate::{Certificate, read_authorities};
use super::found::Found;
use super::handshake::{Handshake, Secured, handshake, roots};
use super::network::{
    Lookup, Reached, Stream, connect, connect_finding, connect_local, look_up, lookup_finding,
};
use super::tls::{self, TlsFacts};
use crate::finding::{Finding, Step, one_line};
use crate::place::Place;

/// A stream to the server, and what it showed.
pub(super) struct Line {
    pub(super) stream: Box<dyn Stream>,
    pub(super) has_tls: bool,
}

/// Looks up the host and connects to its port.
pub(super) async fn reach(place: &Place, found: &mut Found<'_>) -> Option<Box<dyn Stream>> {
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
    found.add(connect_finding(host, port, &reached))?;
    match reached {
        Reached::Connected(stream, ..) | Reached::Local(stream) => Some(stream),
        Reached::Failed(_) => None,
    }
}

/// Completes a handshake, if the pool uses TLS.
pub(super) async fn secure(
    connection: &Connection,
    place: &Place,
    stream: Box<dyn Stream>,
    found: &mut Found<'_>,
) -> Option<Line> {
    let mode = connection.tls_mode();
    if mode == TlsMode::Disable || place.host.starts_with('/') {
        found.add(tls::plain_finding(TlsMode::Disable, None))?;
        return Some(Line {
            stream,
            has_tls: false,
        });
    }
    let of_file = match connection.ca_file().map(read_authorities).transpose() {
        Ok(authorities) => authorities.unwrap_or_default(),
        Err(reason) => {
            let finding = Finding::problem(Step::Tls, "unreadable_ca_file", one_line(&reason))
                .with_next("set `ca_file` to a PEM file of the authority that this user can read");
            found.add(finding)?;
            return None;
        }
    };
    let roots = roots(connection, &of_file);
    match handshake(connection, &place.host, stream, roots).await {
        Handshake::Plain(stream) => {
            found.add(tls::plain_finding(mode, Some(false)))?;
            Some(Line {
                stream,
                has_tls: false,
            })
        }
        Handshake::Failed(reason) => {
            found.add(tls::failed_finding(&reason))?;
            None
        }
        Handshake::Secured(Secured { stream, seen }) => {
            let parse = |certificates: &[_]| -> Vec<Certificate> {
                certificates.iter().filter_map(Certificate::parse).collect()
            };
            found.add(tls::tls_finding(&TlsFacts {
                host: &place.host,
                mode,
                version: &seen.version,
                chain: &parse(&seen.chain),
                verdict: &seen.verdict,
                authorities: &parse(&of_file),
                now: Timestamp::now().wall(),
            }))?;
            Some(Line {
                stream,
                has_tls: true,
            })
        }
    }
}
