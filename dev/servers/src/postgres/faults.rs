//! Faults that a test causes.

use std::io;
use std::time::Duration;

use super::Postgres;
use super::launch::launch;
use crate::error::{StartError, io};
use crate::guardian::Signal;
use crate::launch::on_its_port;

/// Timeout of a stop, before SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

impl Postgres {
    /// Freezes the server and its connections (SIGSTOP), as if the machine hung or the network
    /// dropped packets. The operating system still accepts new connections. Returns when every
    /// process has stopped running.
    ///
    /// # Errors
    /// The server is stopped, or a process still runs after 5 s.
    pub fn stall(&self) -> io::Result<()> {
        self.guardian().stall()
    }

    /// Resumes a stalled server (SIGCONT).
    ///
    /// # Errors
    /// The server is stopped.
    pub fn resume(&self) -> io::Result<()> {
        self.guardian().resume()
    }

    /// Stops the server at once, stalled or not, as in a crash: connections break, and new ones are
    /// refused. Committed data is there after [`start_again`](Self::start_again). Does nothing if
    /// the server is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian().stop(Signal::Quit, KILL_TIMEOUT)
    }

    /// Shuts the server down (PostgreSQL's "fast" shutdown): connections are closed with 57P01, and
    /// data is written. Does nothing if the server is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn shut_down(&self) -> io::Result<()> {
        self.guardian().stop(Signal::Interrupt, SHUTDOWN_TIMEOUT)
    }

    /// Starts the server again with the same data on the same port, and waits until it accepts
    /// connections. A running server is stopped first, as by [`stop`](Self::stop), because it may
    /// be about to end.
    ///
    /// # Errors
    /// As [`Builder::start`](super::Builder::start); [`StartError::PortTaken`] if another process
    /// listens on the port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        let mut guardian = self.guardian();
        let failed = io("talk to the server's guardian process");
        guardian.stop(Signal::Quit, KILL_TIMEOUT).map_err(failed)?;
        on_its_port(|| {
            launch(
                &mut guardian,
                &self.programs,
                self.tokens.as_ref(),
                self.port,
            )
        })
    }
}
