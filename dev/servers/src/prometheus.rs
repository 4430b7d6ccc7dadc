//! A Prometheus of one's own.

pub(crate) mod program;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{StartError, io};
use crate::guardian::{Guardian, Signal};
use crate::http;
use crate::launch::{Launch, on_a_free_port};
use crate::ports::HOST;
use crate::programs::Programs;
use crate::server::Server;
use crate::text_log::TextLog;

/// Returns how often the targets are scraped and the rules evaluated, and how long a scrape may take.
const INTERVAL: &str = "500ms";

/// A running [Prometheus](https://prometheus.io): it scrapes `/metrics` of its targets twice a
/// second, evaluates its rules as often, and notifies nobody.
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
/// Its answers are the JSON of its [HTTP
/// API](https://prometheus.io/docs/prometheus/latest/querying/api/). `promtool` lies beside its
/// program, in the folder that [`Server::find`] answers. Dropping it kills the server and waits
/// until nothing is left of it. Every method takes `&self`.
#[derive(Debug)]
pub struct Prometheus {
    guardian: Mutex<Guardian>,
    port: u16,
}

impl Prometheus {
    /// Starts a server that scrapes these targets, each a host and a port, and evaluates the rules
    /// in this file: about 0.2 s.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] when there is no Prometheus on this machine. A server that ends
    /// at once, as with rules that it cannot read, or that does not come up within 30 s is an error
    /// with the end of its log. Whatever fails, nothing is left behind.
    pub fn start(targets: &[&str], rules: Option<&Path>) -> Result<Self, StartError> {
        Self::start_from(&Programs::from_environment(), targets, rules)
    }

    /// Like [`start`](Self::start), with the program that is found in these places.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_from(
        programs: &Programs,
        targets: &[&str],
        rules: Option<&Path>,
    ) -> Result<Self, StartError> {
        let program = programs.find(Server::Prometheus)?.join("prometheus");
        // As whoever runs the test: others may not be allowed where the program or the rules lie.
        let mut guardian = Guardian::start(None, Signal::Kill)
            .map_err(io("start the server's guardian process"))?;
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
            guardian: Mutex::new(guardian),
            port,
        })
    }

    /// Where its API and its pages are, as `http://127.0.0.1:20123`.
    pub fn address(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// Returns the server's process id, `None` once it has died.
    pub fn pid(&self) -> Option<u32> {
        self.guardian().server()
    }

    /// What an expression is worth now, in JSON:
    /// `{"status":"success","data":{"resultType":"vector","result":[…]}}`.
    ///
    /// # Errors
    /// When it does not answer, or not with 200, as to an expression that it cannot parse; the
    /// error has its answer.
    pub fn query(&self, expression: &str) -> io::Result<String> {
        self.get(&format!("/api/v1/query?query={}", encoded(expression)))
    }

    /// The alerts that are pending or firing, in JSON:
    /// `{"status":"success","data":{"alerts":[…]}}`.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn alerts(&self) -> io::Result<String> {
        self.get("/api/v1/alerts")
    }

    /// What it answers to a `GET` of a path with its query string.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn get(&self, path: &str) -> io::Result<String> {
        http::get(self.port, path)
    }

    fn guardian(&self) -> MutexGuard<'_, Guardian> {
        // A panic in another thread does not invalidate the guardian.
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the server on this port and waits until it answers.
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
    // The log tells our server from another that has the port, the answer that it is more than a
    // socket.
    let is_ready = |_, log: &TextLog| {
        log.count("Server is ready to receive web requests")
            .is_ok_and(|lines| lines > 0)
            && http::get(port, "/-/ready").is_ok()
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

/// Percent-encoded, as the value in a query string.
fn encoded(text: &str) -> String {
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
