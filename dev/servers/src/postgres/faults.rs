//! Faults that a test causes.

use std::io;
use std::time::Duration;

use super::Postgres;
use super::launch::launch;
use crate::error::StartError;
use crate::guardian::Signal;
use crate::launch::restart;

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

impl Postgres {
    /// Freezes the server and its connections (SIGSTOP), as if the machine hung or the network
    /// dropped packets. The operating system still accepts new connections. Returns when every
    /// process has stopped running.
    ///
    /// # Errors
    /// The server is stopped, or a process still runs after 5 s.
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

    /// Stops the server at once, stalled or not, as in a crash: connections break, and new ones are
    /// refused. Committed data is there after [`start_again`](Self::start_again). Does nothing if
    /// the server is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian.lock().stop_at_once()
    }

    /// Shuts the server down (PostgreSQL's "fast" shutdown): connections are closed with 57P01, and
    /// data is written. Does nothing if the server is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn shut_down(&self) -> io::Result<()> {
        self.guardian
            .lock()
            .stop(Signal::Interrupt, SHUTDOWN_TIMEOUT)
    }

    /// Starts the server again with the same data on the same port, and waits until it accepts
    /// connections. A running server is stopped first, as by [`stop`](Self::stop), because it may
    /// be about to end.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`](super::PostgresBuilder::start); [`StartError::PortTaken`] if
    /// another process listens on the port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        restart(&self.guardian, |guardian| {
            launch(guardian, &self.run, self.port)
        })
    }
}
