//! Starting the server process and knowing when it is ready.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::error::{StartError, io};
use super::{HOST, Log};
use crate::deadline::Deadline;
use crate::guardian::Guardian;

/// Ports below those that Linux (32768-60999) and macOS (49152-65535) give to outgoing
/// connections. From among those a client that keeps knocking at a stopped server would
/// now and then be given the server's own port, and the server could not come back.
const PORTS: Range<u16> = 20_000..30_000;

/// How long the server may take until it accepts connections; it takes some 50 ms.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// How many lines of the log an error shows.
const LINES_TO_SHOW: usize = 20;

/// A port that nobody listens on now; somebody may a moment later.
pub(super) fn free_port() -> Result<u16, StartError> {
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

/// Starts the server on this port and waits until it accepts connections.
pub(super) fn launch(guardian: &mut Guardian, programs: &Path, port: u16) -> Result<(), StartError> {
    let guardian_failed = || io("talk to the server's guardian process");
    let data = guardian.folder().join("data");
    let log = Log::of(guardian.server_log()).from_now().map_err(io("read the server's log"))?;
    let port_argument = port.to_string();
    let pid = guardian
        .serve(&programs.join("postgres"), &[OsStr::new("-D"), data.as_os_str(), OsStr::new("-p"), OsStr::new(&port_argument)])
        .map_err(guardian_failed())?;
    let deadline = Deadline::after(PATIENCE);
    while !is_ready(&data, pid) {
        if !guardian.is_running().map_err(guardian_failed())? {
            let log = log.tail(LINES_TO_SHOW);
            return Err(if log.contains("Address already in use") { StartError::PortTaken { port } } else { StartError::Ended { log } });
        }
        if deadline.has_passed() {
            return Err(StartError::NotReady { after: PATIENCE, log: log.tail(LINES_TO_SHOW) });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// What `pg_ctl --wait` looks at: the first line of `postmaster.pid` is the process id,
/// the eighth becomes `ready`. Unlike a trial connection it leaves no trace in the log.
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = status.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}
