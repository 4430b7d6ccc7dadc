//! Starts and stops a Prometheus.

pub(crate) mod program;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::http_client;
use crate::launch::{Launch, on_a_free_port};
use crate::ports::HOST;
use crate::programs::Programs;
use crate::server::Server;
use crate::text_log::TextLog;

/// Interval of scrapes and of the evaluation of rules, and timeout of a scrape.
const INTERVAL: &str = "500ms";

/// A running [Prometheus](https://prometheus.io). It scrapes `/metrics` of its targets and
/// evaluates its rules twice a second. It sends no notifications.
///
/// ```
/// use claviger_servers::Prometheus;
///
/// fn a_test(rules: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
///     let prometheus = Prometheus::start(&["127.0.0.1:9000"], Some(rules))?;
///     let json = prometheus.query("sum(up)")?;
///     assert!(json.starts_with(r#"{"status":"success""#));
///     Ok(())
/// }
/// ```
///
/// Its responses are the JSON of its [HTTP
/// API](https://prometheus.io/docs/prometheus/latest/querying/api/). `promtool` is beside its
/// program, in the folder of [`Server::find`]. Dropping it kills the server and removes its files.
/// Every method takes `&self`.
#[derive(Debug)]
pub struct Prometheus {
    guardian: SharedGuardian,
    port: u16,
}

impl Prometheus {
    /// Starts a server that scrapes these targets, each `host:port`, and evaluates the rules in
    /// this file: about 0.2 s.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without Prometheus on this machine. A server that ends, as with
    /// invalid rules, or is not ready within 30 s, is an error with the end of its log. Nothing is
    /// left behind.
    pub fn start(targets: &[&str], rules: Option<&Path>) -> Result<Self, StartError> {
        Self::start_from(&Programs::from_environment(), targets, rules)
    }

    /// Like [`start`](Self::start), with a program from these places.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_from(
        programs: &Programs,
        targets: &[&str],
        rules: Option<&Path>,
    ) -> Result<Self, StartError> {
        let program = programs.find(Server::Prometheus)?.join("prometheus");
        // Runs as the user of the test, because others may not have access to the program or the
        // rules.
        let mut guardian = Guardian::start(None, Signal::Kill)?;
        let folder = guardian.folder().to_owned();
        let rules = rules
            .map(std::path::absolute)
            .transpose()
            .map_err(io("find the rules"))?;
        let config = folder.join("prometheus.yml");
        fs::write(&config, settings(targets, rules.as_deref()))
            .map_err(io("write the server's settings"))?;
        let port = on_a_free_port(|port| {
            launch(&mut guardian, &program, &config, &folder.join("data"), port)
        })?;
        Ok(Self {
            guardian: SharedGuardian::new(guardian),
            port,
        })
    }

    /// Returns the address of its API and pages, as `http://127.0.0.1:20123`.
    pub fn address(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// Returns the server's process id, `None` after it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }

    /// Returns the present value of an expression, in JSON:
    /// `{"status":"success","data":{"resultType":"vector","result":[…]}}`.
    ///
    /// # Errors
    /// No response, or another status than 200, as for an invalid expression; the error contains
    /// the response.
    pub fn query(&self, expression: &str) -> io::Result<String> {
        self.get(&format!(
            "/api/v1/query?query={}",
            percent_encode(expression)
        ))
    }

    /// Returns the alerts that are pending or firing, in JSON:
    /// `{"status":"success","data":{"alerts":[…]}}`.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn alerts(&self) -> io::Result<String> {
        self.get("/api/v1/alerts")
    }

    /// Returns the response to a GET of a path with its query string.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn get(&self, path: &str) -> io::Result<String> {
        http_client::get(self.port, path)
    }
}

/// Starts the server on this port and waits until it responds.
fn launch(
    guardian: &mut Guardian,
    program: &Path,
    config: &Path,
    data: &Path,
    port: u16,
) -> Result<(), StartError> {
    let mut command: Vec<OsString> = vec![program.into()];
    for (flag, value) in [
        ("config.file", config.as_os_str().to_owned()),
        ("storage.tsdb.path", data.into()),
        ("web.listen-address", format!("{HOST}:{port}").into()),
    ] {
        let mut argument = OsString::from(format!("--{flag}="));
        argument.push(value);
        command.push(argument);
    }
    let is_ready = |_, log: &TextLog| {
        log.contains("Server is ready to receive web requests")
            && http_client::get(port, "/-/ready").is_ok()
    };
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}

fn settings(targets: &[&str], rules: Option<&Path>) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("{target:?}")).collect();
    let mut text = format!(
        "global: {{ scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: {INTERVAL} }}\n\
         scrape_configs:\n  - job_name: service\n    static_configs: [{{ targets: [{}] }}]\n",
        targets.join(", ")
    );
    if let Some(rules) = rules {
        // The quotes of a Rust string are those of YAML, too.
        text.push_str(&format!("rule_files: [{:?}]\n", rules.to_string_lossy()));
    }
    text
}

/// Percent-encodes a value of a query string.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
