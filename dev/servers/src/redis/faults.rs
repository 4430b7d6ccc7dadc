//! Faults that a test causes.

use std::io;
use std::sync::atomic::Ordering;

use super::{Redis, launch};
use crate::error::StartError;
use crate::launch::restart;

impl Redis {
    /// Freezes the server (SIGSTOP). The operating system still accepts new connections.
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

    /// Stops the server at once, which closes all connections. Its data is lost, its users are not.
    /// Does nothing if it is stopped already.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian.lock().stop_at_once()
    }

    /// Starts the server again on the same port with the same users. One that still runs is stopped
    /// first. Its counts begin at zero.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`](super::RedisBuilder::start); [`StartError::PortTaken`] if another
    /// process listens on the port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        restart(&self.guardian, |guardian| {
            launch(guardian, &self.program, &self.folder, self.port)?;
            self.own_logins.store(0, Ordering::Relaxed);
            Ok(())
        })
    }
}
