//! The proxy's threads: one that accepts connections, and one for each connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::state::ProxyState;
use super::{InjectedFault, Request};
use crate::http::{HttpRequest, Response};

/// Timeout of a connection to the service.
const TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Accepts connections until the proxy ends, and returns when the last of them has ended.
pub(super) fn accept_connections(
    listener: &TcpListener,
    upstream: SocketAddr,
    state: &Arc<ProxyState>,
) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        if state.has_ended() {
            break;
        }
        let Ok((client, _)) = accepted else {
            // A connection that was closed already, or too many open files: both are temporary.
            state.wait(PAUSE);
            continue;
        };
        threads.retain(|thread| !thread.is_finished());
        let state = Arc::clone(state);
        // An error closes the client's connection.
        let serve = move || drop(connection(client, upstream, &state));
        threads.extend(
            thread::Builder::new()
                .name("claviger-proxy-client".to_owned())
                .spawn(serve),
        );
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Serves one client until it closes its connection or a fault does.
fn connection(mut client: TcpStream, upstream: SocketAddr, state: &ProxyState) -> io::Result<()> {
    let _registered = state.accept(&client)?;
    client.set_nodelay(true)?;
    let mut requests = BufReader::new(client.try_clone()?);
    while let Some(request) = HttpRequest::read(&mut requests)? {
        let response = match state.record(to_record(&request)) {
            Some(InjectedFault::Refuse) => break,
            Some(InjectedFault::Stall) => {
                state.wait_for_healing();
                break;
            }
            Some(InjectedFault::Cut) => {
                client.write_all(&pass_on(&request, upstream, state)?.cut_in_half())?;
                break;
            }
            Some(InjectedFault::Reply { status, body }) => Response::json(status, &body),
            Some(InjectedFault::Delay(time)) => {
                state.wait(time);
                pass_on(&request, upstream, state)?
            }
            None => pass_on(&request, upstream, state)?,
        };
        client.write_all(&response.to_bytes())?;
        if request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
        {
            break;
        }
    }
    client.shutdown(Shutdown::Both)
}

fn to_record(request: &HttpRequest) -> Request {
    #[expect(
        clippy::disallowed_methods,
        reason = "clients of real servers run on the real clock"
    )]
    let received_at = std::time::Instant::now();
    Request {
        operation: request.operation(),
        received_at,
        body: String::from_utf8_lossy(&request.body).into_owned(),
    }
}

/// Sends the request to the service on a new connection, and reads the whole response.
fn pass_on(
    request: &HttpRequest,
    upstream: SocketAddr,
    state: &ProxyState,
) -> io::Result<Response> {
    let mut service = TcpStream::connect_timeout(&upstream, TIMEOUT)?;
    let _registered = state.register_upstream(&service)?;
    service.write_all(&request.without_keep_alive())?;
    let mut response = Vec::new();
    service.read_to_end(&mut response)?;
    let response = Response::parse(&response)?;
    state.lock().responses.push(response.text());
    Ok(response)
}
