//! Faults that a test causes.

use std::io;
use std::time::Duration;

use super::MariaDb;
use super::launch::launch;
use crate::error::StartError;
use crate::guardian::Signal;
use crate::launch::restart;

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

impl MariaDb {
    /// Freezes the server (SIGSTOP), as if the machine hung or the network dropped packets. The
    /// operating system still accepts new connections. Returns when the server has stopped running.
    ///
    /// # Errors
    /// The server is stopped, or still runs after 5 s.
    pub fn stall(&self) -> io::Result<()> {
        self.guardian.lock().stall()
    }

    /// Resumes a stalled server (SIGCONT).
    ///
    /// # Errors
    /// The server is stopped.
    pub fn resume(&self) -> io::Result<()> {
        self.guardian.lock().resume()
    }

    /// Kills the server, stalled or not, as in a crash: connections break, and new ones are
    /// refused. Committed data is there after [`start_again`](Self::start_again). Does nothing if
    /// the server is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian.lock().stop_at_once()
    }

    /// Shuts the server down (SIGTERM): statements are interrupted, connections closed, and data is
    /// written. Does nothing if the server is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn shut_down(&self) -> io::Result<()> {
        self.guardian
            .lock()
            .stop(Signal::Terminate, SHUTDOWN_TIMEOUT)
    }

    /// Starts the server again with the same data on the same port, and waits until it accepts
    /// connections. A running server is stopped first, as by [`stop`](Self::stop), because it may
    /// be about to end.
    ///
    /// # Errors
    /// As [`MariaDbBuilder::start`](super::MariaDbBuilder::start); [`StartError::PortTaken`] if
    /// another process listens on the port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        restart(&self.guardian, |guardian| {
            launch(
                guardian,
                &self.installation,
                &self.config,
                self.tokens.as_ref(),
                self.port,
            )
        })
    }
}
