//! Starts and stops a Jaeger.

pub(crate) mod program;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;

use crate::error::StartError;
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::http_client;
use crate::launch::{Launch, on_a_free_port};
use crate::ports::{HOST, free_port};
use crate::programs::Programs;
use crate::server::Server;
use crate::text_log::TextLog;

/// Other ports that it listens on; the operating system chooses them.
const OTHER_PORTS: [&str; 9] = [
    "query.grpc-server",
    "admin.http",
    "collector.grpc-server",
    "collector.http-server",
    "collector.otlp.grpc",
    "http-server",
    "processor.jaeger-binary.server",
    "processor.jaeger-compact.server",
    "processor.zipkin-compact.server",
];

/// A running [Jaeger](https://www.jaegertracing.io). It receives spans by OTLP over HTTP, stores
/// them in memory, and returns them by its API. One that [`install`](crate::install) has built has
/// no web pages.
///
/// ```
/// use claviger_servers::Jaeger;
///
/// fn a_test() -> Result<(), Box<dyn std::error::Error>> {
///     let jaeger = Jaeger::start()?;
///     // … send spans to jaeger.otlp_endpoint(), then:
///     let traces = jaeger.get("/api/traces?service=orders")?;
///     assert!(traces.contains("credential.rotation"));
///     Ok(())
/// }
/// ```
///
/// Dropping it kills the server and removes its files. Every method takes `&self`, so a test can
/// share the server with its tasks.
pub struct Jaeger {
    guardian: SharedGuardian,
    query_port: u16,
    otlp_port: u16,
}

impl Jaeger {
    /// Starts an empty server, in about a second.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without Jaeger on this machine. A server that ends, or is not
    /// ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start() -> Result<Self, StartError> {
        Self::start_from(&Programs::from_environment())
    }

    /// Like [`start`](Self::start), with a program from these places.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_from(programs: &Programs) -> Result<Self, StartError> {
        let program = programs.find(Server::Jaeger)?;
        // Runs as the user of the test, because others may not have access to the program.
        let mut guardian = Guardian::start(None, Signal::Kill)?;
        let mut otlp_port = 0;
        let query_port = on_a_free_port(|port| {
            otlp_port = free_port()?;
            launch(&mut guardian, &program, port, otlp_port)
        })?;
        Ok(Self {
            guardian: SharedGuardian::new(guardian),
            query_port,
            otlp_port,
        })
    }

    /// Returns the endpoint for spans, as `http://127.0.0.1:20123`, for
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn otlp_endpoint(&self) -> String {
        format!("http://{HOST}:{}", self.otlp_port)
    }

    /// Returns the address of its API, as `http://127.0.0.1:20124`.
    pub fn query_address(&self) -> String {
        format!("http://{HOST}:{}", self.query_port)
    }

    /// Sends a GET to its API and returns the JSON text; `path` begins with `/api/`.
    ///
    /// # Errors
    /// The server does not respond, or responds with an error.
    pub fn get(&self, path: &str) -> io::Result<String> {
        http_client::get(self.query_port, path)
    }

    /// Returns the server's process id, `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }

    /// Kills the server; its spans are lost. Does nothing if it is stopped.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian.lock().stop_at_once()
    }
}

impl fmt::Debug for Jaeger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jaeger")
            .field("query_port", &self.query_port)
            .field("otlp_port", &self.otlp_port)
            .finish_non_exhaustive()
    }
}

/// Starts the server on these ports and waits until it responds.
fn launch(
    guardian: &mut Guardian,
    program: &Path,
    query_port: u16,
    otlp_port: u16,
) -> Result<(), StartError> {
    // Otherwise it would trace itself and look for a collector.
    let mut command: Vec<OsString> = ["/usr/bin/env", "OTEL_TRACES_SAMPLER=always_off"]
        .map(OsString::from)
        .to_vec();
    command.push(program.into());
    let listen =
        |name: &str, port: u16| OsString::from(format!("--{name}.host-port={HOST}:{port}"));
    command.extend([
        listen("query.http-server", query_port),
        listen("collector.otlp.http", otlp_port),
    ]);
    command.extend(OTHER_PORTS.map(|name| {
        if name.starts_with("processor") {
            listen_udp(name)
        } else {
            listen(name, 0)
        }
    }));
    let is_ready = |_, log: &TextLog| {
        log.contains("Query server started")
            && http_client::get(query_port, "/api/services").is_ok()
    };
    Launch {
        command: &command,
        port: query_port,
        is_ready,
    }
    .run(guardian)
}

fn listen_udp(name: &str) -> OsString {
    OsString::from(format!("--{name}-host-port={HOST}:0"))
}
