//! What a server sent that is not of the protocol of the pool.

use std::fmt;
use std::io;

use crate::finding::one_line;

/// A response in another protocol than that of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtherProtocol {
    text: String,
    is_tls: bool,
}

impl OtherProtocol {
    /// Describes what a server sent. `wanted` is the protocol of the pool.
    pub(super) fn new(wanted: &str, sent: &[u8]) -> Self {
        let is_tls = matches!(sent, [0x15, 3, ..]);
        let text = String::from_utf8_lossy(sent);
        let shown = match sent {
            _ if is_tls => "an alert of TLS".to_owned(),
            _ if is_mysql(sent) => "the greeting of MySQL".to_owned(),
            _ => format!("{:?}", one_line(text.lines().next().unwrap_or_default())),
        };
        Self {
            text: format!("the server does not respond as {wanted}: it sent {shown}"),
            is_tls,
        }
    }

    /// Returns the response that an error of a stream contains.
    pub(super) fn of_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns whether the server speaks TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for OtherProtocol {}

impl From<OtherProtocol> for io::Error {
    fn from(other: OtherProtocol) -> Self {
        Self::new(io::ErrorKind::InvalidData, other)
    }
}

/// Returns whether a server sent the first message of MySQL: its greeting, or an error.
pub(super) fn is_mysql(sent: &[u8]) -> bool {
    // The numbers of these errors are 1024 to 1279.
    matches!(sent, [_, 0, 0, 0, 10, ..] | [_, 0, 0, 0, 0xff, _, 4, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_sent_is_described() {
        for (sent, shown, is_tls) in [
            (&b"\x15\x03\x03\0\x02\x02\x46"[..], "an alert of TLS", true),
            (b"\x5a\0\0\0\x0a5.5.5", "the greeting of MySQL", false),
            (
                b"\x45\0\0\0\xff\x6a\x04Host",
                "the greeting of MySQL",
                false,
            ),
            (
                b"HTTP/1.1 400 Bad\r\nServer: a\r\n",
                "\"HTTP/1.1 400 Bad\"",
                false,
            ),
            (b"", "\"\"", false),
        ] {
            let other = OtherProtocol::new("Redis", sent);
            let text = format!("the server does not respond as Redis: it sent {shown}");
            assert_eq!(
                (other.to_string(), other.is_tls()),
                (text, is_tls),
                "{sent:?}"
            );
        }
    }
}
