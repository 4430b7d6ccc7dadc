//! Where a server listens.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::ops::Range;

use crate::error::{StartError, io};

/// The only address that a server listens on: nothing outside reaches it.
pub(crate) const HOST: &str = "127.0.0.1";

/// How often another port is tried when somebody takes the chosen one before the server
/// does.
const PORTS_TO_TRY: u32 = 10;

/// Ports below those that Linux (32768-60999) and macOS (49152-65535) give to outgoing
/// connections. From among those a client that keeps knocking at a stopped server would
/// now and then be given the server's own port, and the server could not come back.
const PORTS: Range<u16> = 20_000..30_000;

/// Launches a server on one free port after the other, until one is still free when the
/// server gets to it, and answers that one.
pub(crate) fn on_a_free_port(mut launch: impl FnMut(u16) -> Result<(), StartError>) -> Result<u16, StartError> {
    let mut tries = PORTS_TO_TRY;
    loop {
        let port = free_port()?;
        match launch(port) {
            Ok(()) => return Ok(port),
            Err(StartError::PortTaken { .. }) if tries > 1 => tries -= 1,
            Err(error) => return Err(error),
        }
    }
}

/// A port that nobody listens on now; somebody may a moment later.
fn free_port() -> Result<u16, StartError> {
    let count = u64::from(PORTS.end - PORTS.start);
    // std seeds each `RandomState` of a process from the system's random numbers.
    let mut start = RandomState::new().build_hasher();
    start.write_u32(std::process::id());
    let start = start.finish() % count;
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
