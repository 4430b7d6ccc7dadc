//! The shell process between a test and its server, which outlives both.
//!
//! `guardian.sh` does what must happen even if the test process is killed. This side sends requests
//! through a pipe; its end is the last request.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::account::Account;
use crate::error::{StartError, io};
use crate::nonce::nonce;

/// Timeout of [`Guardian::stop_at_once`], before SIGKILL.
const TIMEOUT: Duration = Duration::from_secs(2);

const SCRIPT: &str = include_str!("guardian.sh");

/// Prefixes of the environment variables that configure PostgreSQL, MariaDB, moto, boto3, OpenBao,
/// Vault and Jaeger.
const USER_SETTINGS: [&str; 8] = [
    "PG", "MYSQL", "MARIADB", "AWS_", "MOTO_", "BAO_", "VAULT_", "OTEL_",
];

/// A signal that stops a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// A running guardian, its folder, and the server that it may have started.
#[derive(Debug)]
pub(crate) struct Guardian {
    process: Child,
    /// `None` only while it is being dropped.
    requests: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
    folder: PathBuf,
    last_signal: Signal,
    server: Option<u32>,
}

impl Guardian {
    /// Starts a guardian. It creates its folder first, so that everything is cleaned up from then
    /// on. `last_signal` stops the server at once.
    pub(crate) fn start(account: Option<Account>, last_signal: Signal) -> Result<Self, StartError> {
        Self::spawn(account, last_signal).map_err(io("start the server's guardian process"))
    }

    fn spawn(account: Option<Account>, last_signal: Signal) -> io::Result<Self> {
        let folder = std::path::absolute(env::temp_dir())?.join(format!("claviger-{}", nonce()));
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"eval "$CLAVIGER_GUARDIAN""#, "claviger-guardian"])
            .arg(&folder)
            .arg(last_signal.name())
            .env("CLAVIGER_GUARDIAN", SCRIPT)
            // The log has to read the same on every machine.
            .env("LC_ALL", "C")
            .current_dir("/")
            // Out of reach of a Ctrl-C at the terminal, which is for the test.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Otherwise a reader of the test's stderr would wait for the guardian, too.
            .stderr(Stdio::null());
        without_user_settings(&mut command);
        if let Some(Account { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }
        let mut process = command.spawn()?;
        let (Some(requests), Some(responses)) = (process.stdin.take(), process.stdout.take())
        else {
            return Err(io::Error::other("the guardian has no pipes"));
        };
        let mut guardian = Self {
            process,
            requests: Some(requests),
            responses: BufReader::new(responses),
            folder,
            last_signal,
            server: None,
        };
        guardian.response()?;
        Ok(guardian)
    }

    /// Returns the folder that the guardian deletes at its end.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file of the server's stdout and stderr.
    pub(crate) fn server_log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Returns the process id of the server, if it has been started and not been stopped.
    pub(crate) fn server(&self) -> Option<u32> {
        self.server
    }

    /// Runs a program to its end; its output is the error's text when it fails.
    pub(crate) fn run(&mut self, command: &[OsString]) -> io::Result<()> {
        self.command_line(command)?;
        self.request("run").map(drop).map_err(|status| {
            let output = fs::read(self.folder.join("run.log")).unwrap_or_default();
            let output = String::from_utf8_lossy(&output);
            io::Error::other(format!(
                "{}: {status}\n{}",
                command
                    .first()
                    .map(|program| program.display().to_string())
                    .unwrap_or_default(),
                output.trim()
            ))
        })
    }

    /// Starts the server, by a program and its arguments, and returns its process id.
    pub(crate) fn serve(&mut self, command: &[OsString]) -> io::Result<u32> {
        self.command_line(command)?;
        let response = self.request("serve")?;
        let pid = response
            .parse()
            .map_err(|_| io::Error::other(format!("not a process id: {response:?}")))?;
        self.server = Some(pid);
        Ok(pid)
    }

    /// Returns whether the server runs; a stalled one does.
    pub(crate) fn is_running(&mut self) -> io::Result<bool> {
        let running = self.request("running")? == "yes";
        if !running {
            self.server = None;
        }
        Ok(running)
    }

    /// Freezes the server and all its children.
    pub(crate) fn stall(&mut self) -> io::Result<()> {
        self.request("stall").map(drop)
    }

    /// Resumes a stalled server.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.request("resume").map(drop)
    }

    /// Stops the server if it runs, as at the guardian's end.
    pub(crate) fn stop_at_once(&mut self) -> io::Result<()> {
        self.stop(self.last_signal, TIMEOUT)
    }

    /// Stops the server if it runs, with SIGKILL after `timeout` (whole seconds).
    pub(crate) fn stop(&mut self, signal: Signal, timeout: Duration) -> io::Result<()> {
        self.request(&format!("stop {} {}", signal.name(), timeout.as_secs()))?;
        self.server = None;
        Ok(())
    }

    fn command_line(&mut self, words: &[OsString]) -> io::Result<()> {
        let mut lines = Vec::new();
        for argument in words {
            if argument.as_bytes().contains(&b'\n') {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("a line break in the argument {argument:?}"),
                ));
            }
            lines.extend_from_slice(b"arg ");
            lines.extend_from_slice(argument.as_bytes());
            lines.push(b'\n');
        }
        self.send(&lines)
    }

    fn request(&mut self, line: &str) -> io::Result<String> {
        self.send(format!("{line}\n").as_bytes())?;
        self.response()
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.requests {
            Some(pipe) => pipe.write_all(bytes),
            None => Err(guardian_ended()),
        }
    }

    fn response(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.responses.read_line(&mut line)? == 0 {
            return Err(guardian_ended());
        }
        let line = line.trim_end();
        match line.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None => Err(io::Error::other(
                line.strip_prefix("failed ").unwrap_or(line).to_owned(),
            )),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Waits for the clean-up, not only for the process. An error cannot be reported in `drop`.
        let _ = self.process.wait();
    }
}

/// A guardian that threads share.
#[derive(Debug)]
pub(crate) struct SharedGuardian(Mutex<Guardian>);

impl SharedGuardian {
    pub(crate) fn new(guardian: Guardian) -> Self {
        Self(Mutex::new(guardian))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Guardian> {
        // A panic in another thread does not invalidate the guardian.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the environment variables (PGHOST, PGSERVICE, AWS_PROFILE, MOTO_PORT, …) that would
/// apply the user's settings to our programs.
pub(crate) fn without_user_settings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if USER_SETTINGS
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
        {
            command.env_remove(name);
        }
    }
}

fn guardian_ended() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the server's guardian process has ended",
    )
}
