//! Starts a server's process and waits until it is ready.

use std::ffi::OsString;
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian};
use crate::ports::free_port;
use crate::text_log::TextLog;

/// Timeout until a server accepts connections; PostgreSQL needs some 50 ms.
const TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

const GUARDIAN_FAILED: &str = "talk to the server's guardian process";

/// Number of log lines in an error.
const LINES_TO_SHOW: usize = 20;

/// Number of attempts on another port, when another process takes the chosen port first.
const PORTS_TO_TRY: u32 = 10;

/// Timeout for the port of a server that starts again. A process that looks for a free port
/// occupies it for microseconds.
const PORT_TIMEOUT: Duration = Duration::from_secs(5);
const PORT_PAUSE: Duration = Duration::from_millis(50);

/// A server's command line, and how it shows that it is ready.
pub(crate) struct Launch<'a, Ready> {
    /// The program and its arguments.
    pub(crate) command: &'a [OsString],
    /// The port among them.
    pub(crate) port: u16,
    /// Called repeatedly with the server's process id and its log since the launch. The log
    /// distinguishes the server from another one on the port.
    pub(crate) is_ready: Ready,
}

impl<Ready: FnMut(u32, &TextLog) -> bool> Launch<'_, Ready> {
    /// Starts the server and waits until it is ready.
    pub(crate) fn run(mut self, guardian: &mut Guardian) -> Result<(), StartError> {
        let guardian_failed = || io(GUARDIAN_FAILED);
        let log = TextLog::new(guardian.server_log())
            .since_now()
            .map_err(io("read the server's log"))?;
        let pid = guardian.serve(self.command).map_err(guardian_failed())?;
        let deadline = Deadline::after(TIMEOUT);
        while !(self.is_ready)(pid, &log) {
            if !guardian.is_running().map_err(guardian_failed())? {
                let log = log.tail(LINES_TO_SHOW);
                // Programs in Go write it in lower case.
                let taken = log.to_ascii_lowercase().contains("address already in use");
                return Err(if taken {
                    StartError::PortTaken { port: self.port }
                } else {
                    StartError::Ended { log }
                });
            }
            if deadline.has_passed() {
                return Err(StartError::NotReady {
                    after: TIMEOUT,
                    log: log.tail(LINES_TO_SHOW),
                });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Launches a server on a free port, on another one if that is taken meanwhile, and returns the
/// port.
pub(crate) fn on_a_free_port(
    mut launch: impl FnMut(u16) -> Result<(), StartError>,
) -> Result<u16, StartError> {
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

/// Stops a server if it runs, and launches it on its previous port, which may become free within
/// 5 s.
pub(crate) fn restart(
    guardian: &SharedGuardian,
    mut launch: impl FnMut(&mut Guardian) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let mut guardian = guardian.lock();
    guardian.stop_at_once().map_err(io(GUARDIAN_FAILED))?;
    let deadline = Deadline::after(PORT_TIMEOUT);
    loop {
        match launch(&mut guardian) {
            Err(StartError::PortTaken { .. }) if !deadline.has_passed() => {
                thread::sleep(PORT_PAUSE)
            }
            result => return result,
        }
    }
}
