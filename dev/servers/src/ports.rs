//! Ports of servers.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::ops::Range;

use crate::error::{StartError, io};
use crate::nonce::random;

/// The only address that a server listens on; it is not reachable from outside.
pub(crate) const HOST: &str = "127.0.0.1";

/// Ports below those that Linux (32768-60999) and macOS (49152-65535) use for outgoing connections.
/// A client that retries a stopped server could otherwise be given the server's own port, and the
/// server could not start again.
const PORTS: Range<u16> = 20_000..30_000;

/// Returns a port that is free now; another process may take it meanwhile.
pub(crate) fn free_port() -> Result<u16, StartError> {
    let count = u64::from(PORTS.end - PORTS.start);
    let start = random() % count;
    for step in 0..count {
        let offset = u16::try_from((start + step) % count).unwrap_or_default();
        let port = PORTS.start + offset;
        match TcpListener::bind((HOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(io("bind a loopback port")(error)),
        }
    }
    Err(StartError::PortTaken { port: PORTS.start })
}
