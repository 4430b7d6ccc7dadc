//! A minimal client of AWS's JSON protocol.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Timeout of each read.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection, which stays open for several calls if the server allows it.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn connect(endpoint: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Calls an operation of Secrets Manager. moto ignores the signature, but reads the service and
    /// region from its header.
    pub(crate) fn call(&mut self, operation: &str, body: &str) -> io::Result<Response> {
        self.send(operation, body)?;
        self.receive()
    }

    pub(crate) fn send(&mut self, operation: &str, body: &str) -> io::Result<()> {
        let request = format!(
            "POST / HTTP/1.1\r\n\
             Host: aws\r\n\
             X-Amz-Target: secretsmanager.{operation}\r\n\
             Content-Type: application/x-amz-json-1.1\r\n\
             Authorization: AWS4-HMAC-SHA256 \
             Credential=any/20260101/us-east-1/secretsmanager/aws4_request, \
             SignedHeaders=host, Signature=any\r\n\
             Content-Length: {}\r\n\
             \r\n\
             {body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())
    }

    pub(crate) fn receive(&mut self) -> io::Result<Response> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap()
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Response {
            status,
            body: String::from_utf8(body).unwrap(),
        })
    }

    /// Returns whether nothing is received for this time.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> io::Result<bool> {
        self.stream.get_ref().set_read_timeout(Some(time))?;
        let silent = loop {
            match self.stream.fill_buf() {
                Ok(_) => break false,
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) =>
                {
                    break true;
                }
                // A signal, such as SIGCHLD, interrupted the read. `read_line` and `read_exact`
                // retry by themselves.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.stream.get_ref().set_read_timeout(Some(TIMEOUT))?;
        Ok(silent)
    }
}
