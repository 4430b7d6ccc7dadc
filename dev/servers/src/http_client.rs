//! HTTP requests to a server, each on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::Response;
use crate::ports::HOST;

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of the response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends a GET and returns the body of a 200.
pub(crate) fn get(port: u16, path: &str) -> io::Result<String> {
    match exchange(port, "GET", path, "", "")? {
        (200, body) => Ok(body),
        (status, body) => Err(io::Error::other(format!(
            "{path} returned {status}: {}",
            body.trim()
        ))),
    }
}

/// Sends a request and returns the response's status and body. `headers` are further headers, each
/// with its line break.
pub(crate) fn exchange(
    port: u16,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(
        &SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        CONNECT_TIMEOUT,
    )?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // With HTTP/1.0 the response ends with the connection and is not chunked.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let response = Response::parse(&bytes)?;
    Ok((response.code()?, response.text()))
}
