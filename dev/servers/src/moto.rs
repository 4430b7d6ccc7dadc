//! Starts and stops a moto server.

pub(crate) mod python;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::StartError;
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::http_client;
use crate::launch::{Launch, on_a_free_port, restart};
use crate::ports::HOST;
use crate::programs::Programs;
use crate::server::Server;
use crate::text_log::TextLog;

/// A running [moto](https://docs.getmoto.org) server. It emulates AWS's services over plain HTTP,
/// and accepts every access key and signature.
///
/// It starts empty and keeps its state in memory. A client reaches it by its endpoint, with any
/// region and any credentials:
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
/// It does not rotate secrets: a test runs the four steps itself. Read secrets with a staging
/// label, because without one moto 5.2 keeps returning the old version after
/// `UpdateSecretVersionStage`.
///
/// Dropping it kills the server and removes its files, in some 30 ms. Every method takes `&self`,
/// so a test can share the server with its tasks.
#[derive(Debug)]
pub struct Moto {
    guardian: SharedGuardian,
    python: PathBuf,
    port: u16,
}

impl Moto {
    /// Starts a server and waits until it responds, about a second.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without a Python that has moto. A server that ends, or is not
    /// ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start() -> Result<Self, StartError> {
        Self::start_from(&Programs::from_environment())
    }

    /// Like [`start`](Self::start), with a Python from these places.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_from(programs: &Programs) -> Result<Self, StartError> {
        let python = programs.find(Server::Moto)?;
        // Runs as the user of the test, because others may not have access to the Python. moto may
        // run as root.
        let mut guardian = Guardian::start(None, Signal::Kill)?;
        let port = on_a_free_port(|port| launch(&mut guardian, &python, port))?;
        Ok(Self {
            guardian: SharedGuardian::new(guardian),
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
        self.guardian.lock().server()
    }

    /// Returns the Python program that runs it and has boto3, too.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Freezes the server (SIGSTOP). The operating system still accepts connections.
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

    /// Kills the server, stalled or not: connections break, and new ones are refused. Its state is
    /// lost. Does nothing if the server is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian.lock().stop_at_once()
    }

    /// Starts the server again on the same port, empty, and waits until it responds. A running
    /// server is killed first. For an outage without loss of state use [`stall`](Self::stall) and
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    /// As [`start`](Self::start); [`StartError::PortTaken`] if another process listens on the port
    /// for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        restart(&self.guardian, |guardian| {
            launch(guardian, &self.python, self.port)
        })
    }
}

/// Starts the server on this port and waits until it responds.
fn launch(guardian: &mut Guardian, python: &Path, port: u16) -> Result<(), StartError> {
    let port_argument = port.to_string();
    let arguments = ["-m", "moto.server", "-H", HOST, "-p", &port_argument];
    let command: Vec<OsString> = [python.as_os_str()]
        .into_iter()
        .chain(arguments.map(OsStr::new))
        .map(OsStr::to_owned)
        .collect();
    let is_ready = |_, log: &TextLog| {
        log.contains("Running on") && http_client::get(port, "/moto-api/").is_ok()
    };
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}
