//! An AWS of one's own.

pub(crate) mod python;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{self, StartError};
use crate::guardian::{Guardian, Signal};
use crate::http;
use crate::launch::{Launch, on_a_free_port, on_its_port};
use crate::ports::HOST;
use crate::programs::Programs;
use crate::server::Server;
use crate::text_log::TextLog;

/// How long a server that is to be killed may take until it is gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// A running [moto](https://docs.getmoto.org) server: it answers as AWS's services do, over
/// plain HTTP, and takes every access key and every signature.
///
/// It starts with nothing in it, and all that is put into it is in its memory alone. A
/// client reaches it by its endpoint, with any region and any credentials:
///
/// ```
/// # fn client(_: &str) {}
/// use claviger_servers::Moto;
///
/// fn a_test() -> Result<(), claviger_servers::StartError> {
///     let aws = Moto::start()?;
///     client(&aws.endpoint());
///     Ok(())
/// }
/// ```
///
/// It does not play the rotation of a secret: a test takes the four steps itself. Whoever
/// reads a secret names a version stage; without one moto 5.2 goes on answering the old
/// version after `UpdateSecretVersionStage`.
///
/// Dropping it kills the server and waits until nothing is left of it, some 30 ms. Every
/// method takes `&self`, so a test can share the server with its tasks.
#[derive(Debug)]
pub struct Moto {
    guardian: Mutex<Guardian>,
    python: PathBuf,
    port: u16,
}

impl Moto {
    /// Starts a server and waits until it answers: about a second.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] when no Python of this machine has moto. A server that
    /// does not come up within 30 s, or ends at once, is an error with the end of its log.
    /// Whatever fails, nothing is left behind.
    pub fn start() -> Result<Self, StartError> {
        Self::start_from(&Programs::from_environment())
    }

    /// Like [`start`](Self::start), with the Python that is found in these places.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_from(programs: &Programs) -> Result<Self, StartError> {
        let python = programs.find(Server::Moto)?;
        // Runs as the user of the test, because others may not have access to the Python, and
        // moto does not mind running as root.
        let mut guardian = Guardian::start(None, Signal::Kill)
            .map_err(error::io("start the server's guardian process"))?;
        let port = on_a_free_port(|port| launch(&mut guardian, &python, port))?;
        Ok(Self {
            guardian: Mutex::new(guardian),
            python,
            port,
        })
    }

    /// Returns the address for clients, as `http://127.0.0.1:20123`; the same after
    /// [`start_again`](Self::start_again).
    pub fn endpoint(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// Returns the server's process id, `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guardian().server()
    }

    /// The Python program that runs it, which has boto3, too.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Freezes the server (SIGSTOP): connections are still taken by the operating system,
    /// and nothing is answered.
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

    /// Kills the server, stalled or not: connections break off and clients are rejected from
    /// then on. All that was in it is lost. Does nothing when it is stopped already.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian().stop(Signal::Kill, KILL_TIMEOUT)
    }

    /// Starts the server again on the same port, with nothing in it, and waits until it
    /// answers. One that still runs is killed first. To take a service away and give it back
    /// with all that was in it, use [`stall`](Self::stall) and [`resume`](Self::resume).
    ///
    /// # Errors
    /// As [`start`](Self::start); [`StartError::PortTaken`] when somebody else has listened
    /// on the port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        let mut guardian = self.guardian();
        guardian
            .stop(Signal::Kill, KILL_TIMEOUT)
            .map_err(error::io("talk to the server's guardian process"))?;
        on_its_port(|| launch(&mut guardian, &self.python, self.port))
    }

    fn guardian(&self) -> MutexGuard<'_, Guardian> {
        // A panic in another thread does not invalidate the guardian.
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the server on this port and waits until it answers.
fn launch(guardian: &mut Guardian, python: &Path, port: u16) -> Result<(), StartError> {
    let port_argument = port.to_string();
    let arguments = ["-m", "moto.server", "-H", HOST, "-p", &port_argument];
    let command: Vec<OsString> = [python.as_os_str()]
        .into_iter()
        .chain(arguments.map(OsStr::new))
        .map(OsStr::to_owned)
        .collect();
    // The log tells our server from another that has the port, the answer that it is more
    // than a socket.
    let is_ready = |_, log: &TextLog| {
        log.count("Running on").is_ok_and(|lines| lines > 0)
            && http::get(port, "/moto-api/").is_ok()
    };
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}
