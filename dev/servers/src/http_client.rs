//! HTTP requests to a server, each on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::ports::HOST;

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of the response.
const TIMEOUT: Duration = Duration::from_secs(30);

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
    // With HTTP/1.0 the response ends with the connection, so that its length need not be read.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP");
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(malformed)?;
    Ok((status, body.to_owned()))
}
