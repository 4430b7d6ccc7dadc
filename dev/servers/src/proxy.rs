//! A reverse proxy that counts what goes through it, and fails on command.

mod serve;
mod state;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ports::HOST;

use state::State;

/// An HTTP/1.1 proxy in front of an AWS endpoint, as that of a [`Moto`](crate::Moto), or of an
/// [`OpenBao`](crate::OpenBao).
///
/// Clients take its [`endpoint`](Self::endpoint) for the service's. It notes each request,
/// and behaves as the [`InjectedFault`] says that a test has put on all operations or on one.
/// Without a fault it passes everything on.
///
/// Connections to it stay open from one request to the next, as those to AWS do, also where
/// the service behind it closes its own after each. A fault takes effect on them at once.
/// When the service cannot be reached, or ends before its answer does, the client's
/// connection is closed without an answer.
///
/// Dropping it closes every connection and waits for its threads, which takes a
/// millisecond. Every method takes `&self`, so a test can share it with its tasks.
///
/// ```
/// use claviger_servers::{InjectedFault, Moto, Proxy};
///
/// fn a_test() -> Result<(), Box<dyn std::error::Error>> {
///     let aws = Moto::start()?;
///     let proxy = Proxy::start(&aws.endpoint())?;
///     // … a client of proxy.endpoint() reads a secret; then the service throttles:
///     proxy.fault_on("GetSecretValue", InjectedFault::reply(400, r#"{"__type": "ThrottlingException"}"#));
///     // … and at last recovers:
///     proxy.heal();
///     assert_eq!(proxy.requests("GetSecretValue"), 3);
///     Ok(())
/// }
/// ```
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    /// `None` only while it is being dropped.
    thread: Option<JoinHandle<()>>,
}

/// What a [`Proxy`] does in place of passing a request on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InjectedFault {
    /// Nobody is there: on all operations, each new connection is closed at once and each
    /// open one, too; on one operation, its connection is closed in place of an answer.
    Refuse,
    /// A service that hangs, or a network that swallows packets: the request is taken and
    /// never answered. Its connection is closed when the proxy is healed.
    Stall,
    /// The service does as asked, and the connection breaks off when half of the answer's
    /// body is through.
    Cut,
    /// Answered by the proxy; the service does not learn of the request.
    Reply {
        /// The HTTP status.
        status: u16,
        /// The JSON text.
        body: String,
    },
    /// Passed on after this time.
    Delay(Duration),
}

impl InjectedFault {
    /// A [`InjectedFault::Reply`]. AWS names an error in its body, as
    /// `{"__type": "ThrottlingException", "message": "Rate exceeded"}`.
    pub fn reply(status: u16, body: impl Into<String>) -> Self {
        Self::Reply {
            status,
            body: body.into(),
        }
    }
}

/// A request as the proxy got it. The `Debug` form leaves the body out: that of an operation
/// that writes a secret contains it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// The operation's name, as `GetSecretValue`: of the header `X-Amz-Target` what stands
    /// behind the last dot, else of a form the field `Action`, else the request's path.
    pub operation: String,
    /// When it had come as a whole.
    pub received_at: Instant,
    /// What came with it, as JSON text.
    pub body: String,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("operation", &self.operation)
            .field("received_at", &self.received_at)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1, in front of an endpoint as
    /// `http://127.0.0.1:20123`. Nobody needs to listen there yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for an endpoint that is not `http://`, host and port,
    /// or whose host is not known; any other when no port can be had.
    pub fn start(upstream: &str) -> io::Result<Self> {
        let upstream = address(upstream)?;
        let listener = TcpListener::bind((HOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("claviger-proxy".to_owned())
            .spawn(move || serve::all(&listener, upstream, &shared))?;
        Ok(Self {
            address,
            state,
            thread: Some(thread),
        })
    }

    /// Returns the address for clients, as `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how many requests for this operation have come so far, whatever became of them. Those
    /// whose connection [`InjectedFault::Refuse`] closed before they were read are not among them.
    pub fn requests(&self, operation: &str) -> usize {
        self.state
            .lock()
            .log
            .iter()
            .filter(|request| request.operation == operation)
            .count()
    }

    /// Returns how many connections have come so far, refused ones included.
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// Every request that has come so far, in order.
    pub fn log(&self) -> Vec<Request> {
        self.state.lock().log.clone()
    }

    /// The body of every answer that the service has given so far, whether or not it reached
    /// the client. There may be secrets in it.
    pub fn responses(&self) -> Vec<String> {
        self.state.lock().answers.clone()
    }

    /// Lets every operation fail from now on that has no fault of its own.
    pub fn fault(&self, fault: InjectedFault) {
        self.state.set_general(fault);
    }

    /// Lets one operation fail from now on.
    pub fn fault_on(&self, operation: &str, fault: InjectedFault) {
        self.state
            .lock()
            .particular
            .insert(operation.to_owned(), fault);
    }

    /// Takes every fault away.
    pub fn heal(&self) {
        self.state.heal();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.end();
        // Wakes the thread that waits for a connection. If it is gone already, so be it.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where an endpoint is.
fn address(endpoint: &str) -> io::Result<SocketAddr> {
    let wrong = |reason: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the endpoint {endpoint:?} {reason}; it has to be as http://127.0.0.1:5000"),
        )
    };
    let authority = endpoint
        .strip_prefix("http://")
        .ok_or_else(|| wrong("is not plain HTTP"))?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let mut addresses = authority
        .to_socket_addrs()
        .map_err(|error| wrong(&format!("names no host and port ({error})")))?;
    addresses.next().ok_or_else(|| wrong("has no address"))
}
