//! The ways in which a server fails, at a test's command.

use std::io;
use std::time::Duration;

use super::MariaDb;
use super::launch::launch;
use crate::error::{StartError, io};
use crate::guardian::Signal;
use crate::launch::on_its_port;

/// How long the server may take to stop before it is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

impl MariaDb {
    /// Freezes the server (SIGSTOP). New connections are still taken by the operating
    /// system, and then nothing comes any more: a machine that hangs, or a network that
    /// swallows packets. When this returns, it stands still.
    ///
    /// # Errors
    /// When the server is stopped, or does not stand still within 5 s.
    pub fn stall(&self) -> io::Result<()> {
        self.guardian().stall()
    }

    /// Resumes a stalled server (SIGCONT).
    ///
    /// # Errors
    /// When the server is stopped.
    pub fn resume(&self) -> io::Result<()> {
        self.guardian().resume()
    }

    /// Kills the server, stalled or not, the way a crash does: connections break off without
    /// being finished, and clients are rejected from then on. What was committed is there
    /// again after [`start_again`](Self::start_again). Does nothing when it is stopped
    /// already.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian().stop(Signal::Kill, KILL_TIMEOUT)
    }

    /// Stops the server in order (SIGTERM): statements are interrupted, connections ended, and
    /// the data is written out. Does nothing when it is stopped already.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn shut_down(&self) -> io::Result<()> {
        self.guardian().stop(Signal::Terminate, SHUTDOWN_TIMEOUT)
    }

    /// Starts the server again with the same data on the same port, and waits until it
    /// takes connections. One that still runs is stopped first, as by [`stop`](Self::stop):
    /// nobody can tell a server that runs from one that is just dying.
    ///
    /// # Errors
    /// As [`Builder::start`](super::Builder::start); [`StartError::PortTaken`] when
    /// another process has listened on the port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        let mut guardian = self.guardian();
        guardian
            .stop(Signal::Kill, KILL_TIMEOUT)
            .map_err(io("talk to the server's guardian process"))?;
        on_its_port(|| {
            launch(
                &mut guardian,
                &self.installation,
                &self.config,
                self.tokens.as_ref(),
                self.port,
            )
        })
    }
}
