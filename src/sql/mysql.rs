//! Kinds of login errors of MySQL and MariaDB.

use crate::error::ConnectErrorKind;

/// Returns the kind of an error by its number, as in the server error references of MySQL 8.4 and
/// MariaDB 10.11.
pub(crate) fn error_kind(number: u16) -> ConnectErrorKind {
    match number {
        // Wrong password, token or user (1045); no password, or the user's plugin does not allow
        // this way, such as a socket's (1698).
        1045 | 1698 => ConnectErrorKind::Rejected,
        // Locked, in MySQL and MariaDB; blocked after failed logins, in MySQL and MariaDB.
        3118 | 4151 | 3955 | 4150 => ConnectErrorKind::Rejected,
        // An expired password: at the login, or at the first statement after it.
        1862 | 1820 => ConnectErrorKind::Rejected,
        // Too many connections: in total, of this user, of this user within an hour.
        1040 | 1203 | 1226 => ConnectErrorKind::Overloaded,
        // The host is blocked after too many aborted logins, until FLUSH HOSTS.
        1129 => ConnectErrorKind::Misconfigured,
        // Shutting down, killed, or closed by the server.
        1053 | 1152 | 1159 | 1161 | 1927 => ConnectErrorKind::Unreachable,
        // No right on the database, no such database, host not allowed, plugin or TLS missing on
        // one side.
        1044 | 1049 | 1130 | 1251 | 1524 | 3159 => ConnectErrorKind::Misconfigured,
        _ => ConnectErrorKind::Other,
    }
}
