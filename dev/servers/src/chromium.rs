//! Starts and stops a Chromium without windows.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::launch::{Launch, on_a_free_port};
use crate::programs::Programs;
use crate::server::Server;
use crate::text_log::TextLog;

/// The program's names: without windows, and with them.
pub(crate) const NAMES: [&str; 2] = ["chromium-headless-shell", "chromium"];

/// What the browser prints before its address.
const READY: &str = "DevTools listening on ";

/// A running [Chromium](https://www.chromium.org) without windows, with a profile of its own. A
/// test controls it by the [DevTools protocol](https://chromedevtools.github.io/devtools-protocol/).
///
/// ```
/// use claviger_servers::Chromium;
///
/// fn a_test() -> Result<(), Box<dyn std::error::Error>> {
///     let browser = Chromium::start()?;
///     // … open a WebSocket to it, and create a target.
///     assert!(browser.devtools_url().starts_with("ws://127.0.0.1:"));
///     Ok(())
/// }
/// ```
///
/// It runs without its sandbox, which containers cannot provide: open pages of the test alone.
/// Dropping it kills the browser and removes its files. Every method takes `&self`.
pub struct Chromium {
    guardian: SharedGuardian,
    devtools_url: String,
}

impl Chromium {
    /// Starts a browser without a page, in about half a second.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without Chromium on this machine. A browser that ends, or is
    /// not ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start() -> Result<Self, StartError> {
        Self::start_from(&Programs::from_environment())
    }

    /// Like [`start`](Self::start), with a program from these places.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_from(programs: &Programs) -> Result<Self, StartError> {
        let program = programs.find(Server::Chromium)?;
        let mut guardian = Guardian::start(None, Signal::Kill)?;
        let folder = guardian.folder().to_owned();
        on_a_free_port(|port| launch(&mut guardian, &program, &folder, port))?;
        let log = TextLog::new(guardian.server_log());
        let text = log.text().map_err(io("read the browser's log"))?;
        let mut urls = text.lines().filter_map(|line| line.strip_prefix(READY));
        Ok(Self {
            // The last one, because an earlier port may have been taken.
            devtools_url: urls.next_back().unwrap_or_default().to_owned(),
            guardian: SharedGuardian::new(guardian),
        })
    }

    /// Returns the address of the browser's WebSocket, as
    /// `ws://127.0.0.1:20123/devtools/browser/…`.
    pub fn devtools_url(&self) -> &str {
        &self.devtools_url
    }

    /// Returns the browser's process id, `None` after it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }
}

impl fmt::Debug for Chromium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chromium")
            .field("devtools_url", &self.devtools_url)
            .finish_non_exhaustive()
    }
}

/// Starts the browser on this port and waits until it responds.
fn launch(
    guardian: &mut Guardian,
    program: &Path,
    folder: &Path,
    port: u16,
) -> Result<(), StartError> {
    // Debian's program is a script, which ends without the browser. The guardian ends what works in
    // a folder of its own.
    let profile = folder.join("profile");
    let mut command: Vec<OsString> = vec![
        "/bin/sh".into(),
        "-c".into(),
        r#"mkdir -p "$0" && cd "$0" && exec "$@""#.into(),
        profile.clone().into(),
        program.into(),
    ];
    command.extend(
        [
            "--headless",
            "--no-sandbox",
            // Memory for pages is in /tmp then, because containers have little in /dev/shm.
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-default-browser-check",
            "--hide-scrollbars",
        ]
        .map(OsString::from),
    );
    command.push(format!("--remote-debugging-port={port}").into());
    let mut data = OsString::from("--user-data-dir=");
    data.push(profile);
    command.push(data);
    Launch {
        command: &command,
        port,
        is_ready: |_, log: &TextLog| log.contains(READY),
    }
    .run(guardian)
}
