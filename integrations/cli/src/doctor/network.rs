//! The host's addresses, and the connection to its port.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::unreached::{Unreached, no_socket_finding, unreached_finding};
use crate::finding::{Finding, Step, one_line};

/// Longest time of a lookup, and of a connection to a port.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// A stream to a server, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Result of a lookup.
pub(super) enum Lookup {
    Addresses(Vec<SocketAddr>),
    Failed(String),
    TimedOut,
}

/// Looks up a host by the system's resolver.
pub(super) async fn look_up(host: &str, port: u16) -> Lookup {
    match timeout(TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => Lookup::Addresses(addresses.collect()),
        Ok(Err(error)) => Lookup::Failed(error.to_string()),
        Err(_) => Lookup::TimedOut,
    }
}

pub(super) fn lookup_finding(host: &str, lookup: &Lookup) -> Finding {
    let host = one_line(host);
    match lookup {
        Lookup::Addresses(addresses) if !addresses.is_empty() => {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|address| address.ip().to_string())
                .collect();
            Finding::ok(Step::Dns, addresses.join(", "))
        }
        Lookup::TimedOut => Finding::problem(
            Step::Dns,
            "dns_timed_out",
            format!("no response for {host} within 5 s"),
        )
        .with_next("check the resolver of this machine (/etc/resolv.conf) and its network"),
        Lookup::Failed(reason) if is_of_resolver(reason) => Finding::problem(
            Step::Dns,
            "resolver_failed",
            format!("{host} cannot be looked up: {}", one_line(reason)),
        )
        .with_next(
            "check the resolver of this machine (/etc/resolv.conf): it does not respond, or cannot \
             reach the servers of the domain",
        ),
        Lookup::Addresses(_) | Lookup::Failed(_) => {
            let reason = match lookup {
                Lookup::Failed(reason) => one_line(reason),
                _ => "no address".to_owned(),
            };
            Finding::problem(
                Step::Dns,
                "unknown_host",
                format!("{host} is unknown: {reason}"),
            )
            .with_next(
                "check `host` for a typing error, and whether this machine uses the resolver of \
                 the database's network (VPC, cluster)",
            )
        }
    }
}

/// Returns whether the text is that of EAI_AGAIN or EAI_FAIL, by glibc or musl. The standard
/// library keeps the text alone, and leaves it in English.
fn is_of_resolver(reason: &str) -> bool {
    let texts = [
        "temporary failure in name resolution",
        "non-recoverable failure in name resolution",
        "try again",
        "unrecoverable error",
    ];
    let reason = reason.to_ascii_lowercase();
    texts.iter().any(|text| reason.ends_with(text))
}

/// Returns whether two hosts have a common address, or the same name.
pub(super) async fn is_same_host(one: &str, other: &str) -> bool {
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    match (look_up(one, 0).await, look_up(other, 0).await) {
        (Lookup::Addresses(one), Lookup::Addresses(other)) => {
            one.iter().any(|address| other.contains(address))
        }
        _ => false,
    }
}

/// A connection to a port.
pub(super) struct Connected {
    pub(super) stream: Box<dyn Stream>,
    address: SocketAddr,
    took: Duration,
    /// The addresses that were tried before.
    failed: Vec<(SocketAddr, Unreached)>,
}

/// Result of a connection to a port.
pub(super) enum Reached {
    Connected(Connected),
    Local(Box<dyn Stream>),
    Failed(Unreached),
    /// The Unix socket of this path does not accept.
    NoSocket(PathBuf, io::Error),
}

/// How the driver of a pool tries the addresses of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    /// The next one when the system gives up the one before, after some two minutes.
    OneByOne,
    /// The next one after a time limit of the driver.
    NextAfterTimeout,
    AllAtOnce,
}

/// Connects to the first address that accepts. Otherwise the reason is that of the address that
/// timed out, or refused, or was unreachable, in this order.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Reached {
    let mut failed = Vec::new();
    for address in addresses {
        let began = Instant::now();
        match timeout(TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                return Reached::Connected(Connected {
                    stream: Box::new(stream),
                    address: *address,
                    took: began.elapsed(),
                    failed,
                });
            }
            Ok(Err(error)) => failed.push((*address, error.into())),
            Err(_) => failed.push((*address, Unreached::TimedOut)),
        }
    }
    Reached::Failed(reason_to_report(
        failed.into_iter().map(|(_, reason)| reason),
    ))
}

fn reason_to_report(failed: impl IntoIterator<Item = Unreached>) -> Unreached {
    let last = failed.into_iter().max();
    last.unwrap_or_else(|| Unreached::Other("no address".to_owned()))
}

/// Looks up the host and connects again, to compare another protocol. `None` if that fails.
pub(super) async fn open(host: &str, port: u16) -> Option<Box<dyn Stream>> {
    let Lookup::Addresses(addresses) = look_up(host, port).await else {
        return None;
    };
    match connect(&addresses).await {
        Reached::Connected(connected) => Some(connected.stream),
        _ => None,
    }
}

/// Connects to the Unix socket of PostgreSQL in this directory.
pub(super) async fn connect_local(directory: &str, port: u16) -> Reached {
    let socket = Path::new(directory).join(format!(".s.PGSQL.{port}"));
    match UnixStream::connect(&socket).await {
        Ok(stream) => Reached::Local(Box::new(stream)),
        Err(error) => Reached::NoSocket(socket, error),
    }
}

/// Returns the finding for the addresses that failed before another one accepted.
pub(super) fn skipped_finding(attempts: Attempts, connected: &Connected) -> Option<Finding> {
    let (accepted, failed) = (connected.address, &connected.failed);
    let (first, _) = failed.first()?;
    let timed_out = failed
        .iter()
        .find(|(_, reason)| *reason == Unreached::TimedOut);
    let Some((dropped, _)) = timed_out else {
        let detail = format!("{first} does not accept connections, {accepted} does");
        return Some(
            Finding::note(Step::Tcp, "address_unreachable", detail).with_next(
                "remove the address from the host's name, if nothing is to listen there",
            ),
        );
    };
    let detail = format!("{dropped} did not respond within 5 s, {accepted} did");
    let finding = match attempts {
        Attempts::AllAtOnce => return None,
        Attempts::NextAfterTimeout => Finding::note(Step::Tcp, "address_timed_out", detail),
        Attempts::OneByOne => Finding::problem(
            Step::Tcp,
            "address_timed_out",
            format!(
                "{detail}: the pool tries the addresses in this order, and waits for the first"
            ),
        ),
    };
    Some(finding.with_next(
        "open the port on that address in firewalls and security groups, or remove the address \
         from the host's name (DNS, /etc/hosts)",
    ))
}

pub(super) fn connect_finding(host: &str, port: u16, reached: &Reached) -> Finding {
    let place = format!("{}:{port}", one_line(host));
    match reached {
        Reached::Connected(Connected { address, took, .. }) => {
            Finding::ok(Step::Tcp, format!("{address} in {} ms", took.as_millis()))
        }
        Reached::Local(_) => Finding::ok(Step::Tcp, "Unix socket"),
        Reached::Failed(reason) => unreached_finding(&place, reason),
        Reached::NoSocket(socket, error) => no_socket_finding(socket, error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    fn cause(finding: &Finding) -> Option<&str> {
        finding.cause
    }

    #[test]
    fn of_several_addresses_a_dropped_packet_precedes_a_missing_route() {
        let route = || Unreached::Other("no route".to_owned());
        let several = [Unreached::TimedOut, Unreached::Refused, route()];
        assert_eq!(reason_to_report(several.clone()), Unreached::TimedOut);
        assert_eq!(reason_to_report(several[1..].to_vec()), Unreached::Refused);
        assert_eq!(reason_to_report(vec![route()]), route());
    }

    #[test]
    fn a_host_without_an_address_is_unknown() {
        let found = |lookup| cause(&lookup_finding("db", &lookup)).map(str::to_owned);
        let unknown = Some("unknown_host".to_owned());
        assert_eq!(found(Lookup::Addresses(Vec::new())), unknown);
        assert_eq!(found(Lookup::Failed("no such host".into())), unknown);
        assert_eq!(found(Lookup::TimedOut), Some("dns_timed_out".to_owned()));
        let address = "10.0.0.1:5432".parse().expect("an address");
        let known = lookup_finding("db", &Lookup::Addresses(vec![address]));
        assert_eq!((known.cause, known.detail.as_str()), (None, "10.0.0.1"));
    }
}
