//! Ports and sockets that do not accept connections.

use std::io;
use std::path::Path;

use crate::finding::{Finding, Step, one_line};

/// Reason why a port was not reached. Of several, the last in this order is reported: an
/// address without a route, such as IPv6, shows the least about the others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unreached {
    /// This machine has no route.
    NoRoute,
    Other(String),
    /// This machine does not permit the connection.
    NotPermitted,
    /// A router or firewall responds that the host cannot be reached, or nothing has its address.
    HostUnreachable,
    Refused,
    TimedOut,
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable => Self::HostUnreachable,
            io::ErrorKind::NetworkUnreachable => Self::NoRoute,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Returns the finding for a port that was not reached.
pub(super) fn unreached_finding(place: &str, reason: &Unreached) -> Finding {
    let problem = |cause, detail| Finding::problem(Step::Tcp, cause, detail);
    match reason {
        Unreached::TimedOut => problem(
            "connect_timed_out",
            format!("{place} did not respond within 5 s: packets are dropped on the way"),
        )
        .with_next(
            "open the port in firewalls, security groups and network policies between this \
             machine and the server; check routes",
        ),
        Unreached::Refused => problem(
            "connection_refused",
            format!("{place} refuses connections: the port is closed, or a firewall rejects"),
        )
        .with_next("check `port`, whether the server runs, and on which addresses it listens")
        .with_next("if it listens there, open the port in firewalls that reject instead of dropping"),
        Unreached::HostUnreachable => problem(
            "host_unreachable",
            format!("{place} cannot be reached: a router or firewall rejects, or the host is down"),
        )
        .with_next("check whether the host runs, and its address")
        .with_next("open the port in firewalls on the way: one that rejects responds so"),
        Unreached::NoRoute => problem(
            "no_route",
            format!("this machine has no route to {place}"),
        )
        .with_next(
            "check this machine's routes: a VPN that is off, or an IPv6 address without IPv6 here",
        ),
        Unreached::NotPermitted => problem(
            "connect_not_permitted",
            format!("this machine does not permit connections to {place}"),
        )
        .with_next(
            "check this machine's own firewall and routes, and what confines this process: its \
             container, sandbox or SELinux",
        ),
        Unreached::Other(reason) => problem(
            "unreachable",
            format!("{place} cannot be reached: {}", one_line(reason)),
        )
        .with_next("check the network between this machine and the server"),
    }
}

/// Returns the finding for a Unix socket that does not accept.
pub(super) fn no_socket_finding(socket: &Path, error: &io::Error) -> Finding {
    let shown = one_line(&socket.display().to_string());
    let problem = |cause, detail: String| Finding::problem(Step::Tcp, cause, detail);
    let next = "check whether the server runs on this machine";
    match error.kind() {
        io::ErrorKind::NotFound => problem("socket_missing", format!("{shown} does not exist"))
            .with_next(
                "set `host` to a folder of the server's `unix_socket_directories`, and `port` to \
                 its port, which the socket's name contains",
            )
            .with_next(format!("{next}, and whether this container has its folder")),
        io::ErrorKind::ConnectionRefused => {
            let detail = format!("no server listens on {shown}: it has ended and left the socket");
            problem("connection_refused", detail).with_next(next)
        }
        io::ErrorKind::PermissionDenied => problem(
            "connect_not_permitted",
            format!("this user may not connect to {shown}"),
        )
        .with_next("allow it by `unix_socket_permissions` and `unix_socket_group` of the server"),
        _ => problem(
            "unreachable",
            format!("{shown} does not accept: {}", one_line(&error.to_string())),
        )
        .with_next(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_packet_is_not_a_closed_port() {
        let dropped = unreached_finding("db:5432", &Unreached::TimedOut);
        let closed = unreached_finding("db:5432", &Unreached::Refused);
        assert_eq!(dropped.cause, Some("connect_timed_out"));
        assert!(dropped.next[0].contains("firewall"), "{dropped:?}");
        assert_eq!(closed.cause, Some("connection_refused"));
    }

    #[test]
    fn a_firewall_that_rejects_a_missing_route_and_a_local_rule_are_distinguished() {
        for (kind, expected, word) in [
            (
                io::ErrorKind::ConnectionRefused,
                "connection_refused",
                "firewall",
            ),
            (
                io::ErrorKind::HostUnreachable,
                "host_unreachable",
                "firewall",
            ),
            (io::ErrorKind::NetworkUnreachable, "no_route", "routes"),
            (
                io::ErrorKind::PermissionDenied,
                "connect_not_permitted",
                "this machine's own firewall",
            ),
            (io::ErrorKind::AddrNotAvailable, "unreachable", "network"),
        ] {
            let error = io::Error::from(kind);
            let finding = unreached_finding("db:5432", &error.into());
            assert_eq!(finding.cause, Some(expected));
            let next = finding.next.join(" ");
            assert!(next.contains(word), "{next}");
        }
    }
}
