//! Starts and stops an OpenBao or a Vault.

mod builder;
mod config;
mod http;
pub(crate) mod program;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub use builder::OpenBaoBuilder;
pub use http::VaultResponse;

use crate::deadline::Deadline;
use crate::error::{self, StartError};
use crate::guardian::{Guardian, SharedGuardian};
use crate::launch::{Launch, restart};
use crate::ports::HOST;
use crate::programs::Programs;
use crate::text_log::TextLog;

/// Timeout until an unsealed server is active; it needs a second.
const TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// A running [OpenBao](https://openbao.org) server, or a HashiCorp Vault where `CLAVIGER_VAULT_BIN`
/// names one. It is initialised and unsealed, with the default mounts only.
///
/// Its storage survives [`stop`](Self::stop) and [`start_again`](Self::start_again), leases and
/// tokens included, which expire meanwhile. [`request`](Self::request) sends any request as root:
///
/// ```
/// use claviger_servers::OpenBao;
///
/// fn a_test() -> Result<(), Box<dyn std::error::Error>> {
///     let vault = OpenBao::start()?;
///     let engine = r#"{"type": "kv", "options": {"version": "2"}}"#;
///     vault.request("POST", "sys/mounts/kv", Some(engine))?;
///     vault.request("POST", "kv/data/db", Some(r#"{"data": {"password": "s3cret"}}"#))?;
///     vault.seal()?;
///     assert_eq!(vault.request("GET", "kv/data/db", None)?.status, 503);
///     Ok(())
/// }
/// ```
///
/// Dropping it kills the server and removes its files. Every method takes `&self`, so a test can
/// share the server with its tasks.
pub struct OpenBao {
    guardian: SharedGuardian,
    program: PathBuf,
    config: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    ca_file: Option<PathBuf>,
    root_token: String,
    unseal_key: String,
}

impl OpenBao {
    /// Starts an empty server, in about 3 s.
    ///
    /// # Errors
    /// As [`OpenBaoBuilder::start`].
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// Like [`start`](Self::start), with a program from these places.
    ///
    /// # Errors
    /// As [`OpenBaoBuilder::start`].
    pub fn start_from(programs: &Programs) -> Result<Self, StartError> {
        Self::builder().programs(programs.clone()).start()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> OpenBaoBuilder {
        OpenBaoBuilder::default()
    }

    /// Returns the address for clients, as `http://127.0.0.1:20123`; the same after
    /// [`start_again`](Self::start_again).
    pub fn address(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// Returns the address for clients by TLS, with [`OpenBaoBuilder::tls`].
    pub fn tls_address(&self) -> Option<String> {
        self.tls_port.map(|port| format!("https://{HOST}:{port}"))
    }

    /// Returns the CA of its certificate, with [`OpenBaoBuilder::tls`].
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// Returns the root token, which never expires.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// Returns the server's process id, `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }

    /// Sends a request as root; `path` is the part after `/v1/`, `body` is JSON. Returns the
    /// response, whatever its status.
    ///
    /// # Errors
    /// The server does not respond.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> io::Result<VaultResponse> {
        self.request_as(&self.root_token, method, path, body)
    }

    /// Like [`request`](Self::request), with another token; without one if it is empty.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn request_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> io::Result<VaultResponse> {
        http::request(self.port, token, "", method, path, body)
    }

    /// Like [`request`](Self::request), with a wrapped response: its token unwraps the response
    /// once, within `seconds`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn request_wrapped(
        &self,
        seconds: u64,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> io::Result<VaultResponse> {
        let header = format!("X-Vault-Wrap-TTL: {seconds}\r\n");
        http::request(self.port, &self.root_token, &header, method, path, body)
    }

    /// Seals it: requests get 503 until [`unseal`](Self::unseal).
    ///
    /// # Errors
    /// The server does not respond, or reports an error.
    pub fn seal(&self) -> io::Result<()> {
        expect_success("seal", &self.request("PUT", "sys/seal", None)?)
    }

    /// Unseals it and waits until it is active.
    ///
    /// # Errors
    /// The server does not respond, or is not active within 30 s.
    pub fn unseal(&self) -> io::Result<()> {
        let key = format!(r#"{{"key": "{}"}}"#, self.unseal_key);
        let deadline = Deadline::after(TIMEOUT);
        expect_success(
            "unseal",
            &self.request_as("", "PUT", "sys/unseal", Some(&key))?,
        )?;
        loop {
            // It is active shortly before it serves its mounts.
            let responses = [
                self.request_as("", "GET", "sys/health", None)?,
                self.request("GET", "sys/mounts", None)?,
            ];
            match responses.iter().find(|response| response.status != 200) {
                None => return Ok(()),
                Some(response) if deadline.has_passed() => {
                    return expect_success("become active", response);
                }
                Some(_) => thread::sleep(PAUSE),
            }
        }
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

    /// Kills the server, stalled or not. Does nothing if it is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian.lock().stop_at_once()
    }

    /// Starts the server again on the same port with its storage, unseals it, and waits until it is
    /// active. A running server is killed first.
    ///
    /// # Errors
    /// As [`OpenBaoBuilder::start`]; [`StartError::PortTaken`] if another process listens on the
    /// port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        restart(&self.guardian, |guardian| {
            launch(guardian, &self.program, &self.config, self.port)
        })?;
        self.unseal().map_err(error::io("unseal the server"))
    }

    fn initialise(&mut self) -> Result<(), StartError> {
        let purpose = "initialise the server";
        let shares = r#"{"secret_shares": 1, "secret_threshold": 1}"#;
        let response = self
            .request_as("", "PUT", "sys/init", Some(shares))
            .map_err(error::io(purpose))?;
        expect_success("be initialised", &response).map_err(error::io(purpose))?;
        match (response.text_of("keys"), response.text_of("root_token")) {
            (Some(key), Some(token)) => {
                self.unseal_key = key.to_owned();
                self.root_token = token.to_owned();
                Ok(())
            }
            _ => Err(error::io(purpose)(io::Error::other(
                "the response has no key or no token",
            ))),
        }
    }
}

impl fmt::Debug for OpenBao {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBao")
            .field("program", &self.program)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Starts the server on this port and waits until it responds, sealed.
fn launch(
    guardian: &mut Guardian,
    program: &Path,
    config: &Path,
    port: u16,
) -> Result<(), StartError> {
    let command: [OsString; 4] = [
        program.into(),
        "server".into(),
        "-config".into(),
        config.into(),
    ];
    let is_ready = |_, log: &TextLog| {
        log.contains("server started!")
            && http::request(port, "", "", "GET", "sys/health", None).is_ok()
    };
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}

fn expect_success(action: &str, response: &VaultResponse) -> io::Result<()> {
    if response.is_success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "the server did not {action}: {response:?}"
        )))
    }
}
