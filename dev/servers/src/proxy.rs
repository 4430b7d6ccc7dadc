//! A reverse proxy that counts requests and injects faults.

mod serve;
mod state;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ports::HOST;

use state::ProxyState;

/// An HTTP/1.1 proxy in front of an AWS endpoint, as that of a [`Moto`](crate::Moto), or of an
/// [`OpenBao`](crate::OpenBao).
///
/// Clients use its [`endpoint`](Self::endpoint) instead of the service's. It records each request
/// and applies the [`InjectedFault`] of its operation, else that of all operations. Without a fault
/// it forwards the request.
///
/// Its connections are persistent, as those to AWS are, even if the service closes its own after
/// each request. A fault applies to open connections at once. If the service cannot be reached, or
/// ends before its response does, the client's connection is closed without a response.
///
/// Dropping it closes every connection and waits for its threads, about a millisecond. Every method
/// takes `&self`, so a test can share it with its tasks.
///
/// ```
/// use claviger_servers::{InjectedFault, Moto, Proxy};
///
/// fn a_test() -> Result<(), Box<dyn std::error::Error>> {
///     let aws = Moto::start()?;
///     let proxy = Proxy::start(&aws.endpoint())?;
///     // … a client of proxy.endpoint() reads a secret; then the service throttles:
///     let throttled = r#"{"__type": "ThrottlingException"}"#;
///     proxy.fault_on("GetSecretValue", InjectedFault::reply(400, throttled));
///     // … and at last recovers:
///     proxy.heal();
///     assert_eq!(proxy.requests("GetSecretValue"), 3);
///     Ok(())
/// }
/// ```
pub struct Proxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
    /// `None` only while it is being dropped.
    thread: Option<JoinHandle<()>>,
}

/// What a [`Proxy`] does instead of forwarding a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InjectedFault {
    /// On all operations, closes open connections and each new one at once. On one operation,
    /// closes its connection instead of responding.
    Refuse,
    /// Accepts the request and never responds, as if the service hung or the network dropped
    /// packets. The connection is closed when the proxy is healed.
    Stall,
    /// Forwards the request, and breaks the connection in the middle of the response's body.
    Cut,
    /// Responds itself; the service does not receive the request.
    Reply {
        /// The HTTP status.
        status: u16,
        /// The JSON text.
        body: String,
    },
    /// Forwards the request after this time.
    Delay(Duration),
}

impl InjectedFault {
    /// Returns an [`InjectedFault::Reply`]. AWS names an error in the body, as `{"__type":
    /// "ThrottlingException", "message": "Rate exceeded"}`.
    pub fn reply(status: u16, body: impl Into<String>) -> Self {
        Self::Reply {
            status,
            body: body.into(),
        }
    }
}

/// A request as the proxy received it. The `Debug` form omits the body, which may contain a secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// Name of the operation, as `GetSecretValue`: the text after the last dot of the header
    /// `X-Amz-Target`, else the form field `Action`, else the path.
    pub operation: String,
    /// When the request was received completely.
    pub received_at: Instant,
    /// Its body, as JSON text.
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
    /// `http://127.0.0.1:20123`. The endpoint need not listen yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for an endpoint other than `http://`, host and port, or with
    /// an unknown host; any other kind if there is no free port.
    pub fn start(upstream: &str) -> io::Result<Self> {
        let upstream = address(upstream)?;
        let listener = TcpListener::bind((HOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(ProxyState::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("claviger-proxy".to_owned())
            .spawn(move || serve::accept_connections(&listener, upstream, &shared))?;
        Ok(Self {
            address,
            state,
            thread: Some(thread),
        })
    }

    /// Returns the endpoint for clients, as `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how many requests for this operation were received, with or without a fault.
    /// Requests on connections that [`InjectedFault::Refuse`] closed before they were read are not
    /// included.
    pub fn requests(&self, operation: &str) -> usize {
        self.state
            .lock()
            .log
            .iter()
            .filter(|request| request.operation == operation)
            .count()
    }

    /// Returns how many connections were accepted, closed ones included.
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// Returns every request so far, in order.
    pub fn log(&self) -> Vec<Request> {
        self.state.lock().log.clone()
    }

    /// Returns the body of every response of the service so far, whether or not it reached the
    /// client. Bodies may contain secrets.
    pub fn responses(&self) -> Vec<String> {
        self.state.lock().responses.clone()
    }

    /// Applies a fault to every operation without a fault of its own.
    pub fn fault(&self, fault: InjectedFault) {
        self.state.set_default_fault(fault);
    }

    /// Applies a fault to one operation.
    pub fn fault_on(&self, operation: &str, fault: InjectedFault) {
        self.state
            .lock()
            .operation_faults
            .insert(operation.to_owned(), fault);
    }

    /// Removes every fault.
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
        // Wakes the thread that accepts connections. An error means that it has ended.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Resolves an endpoint.
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
