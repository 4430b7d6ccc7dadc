//! The part of HTTP/1.1 that clients of AWS and Kubernetes use, and moto.

use std::io::{self, BufRead, Read};

/// Headers of one connection, which are not passed on.
const CONNECTION_HEADERS: [&str; 3] = ["connection", "keep-alive", "transfer-encoding"];

/// A request: its first line, its headers, its body.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    first_line: String,
    headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl HttpRequest {
    /// Reads the next request of a connection; `None` if the client has closed it.
    pub(crate) fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some((first_line, headers)) = read_head(stream)? else {
            return Ok(None);
        };
        let mut request = Self {
            first_line,
            headers,
            body: Vec::new(),
        };
        if request.header("transfer-encoding").is_some() {
            return Err(invalid("a request without a length"));
        }
        let length = request.header("content-length").unwrap_or("0");
        let length: usize = length
            .parse()
            .map_err(|_| invalid("a length that is not a number"))?;
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body)?;
        Ok(Some(request))
    }

    /// Returns the value of a header; `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header_value(&self.headers, name)
    }

    /// Returns the name of the requested operation.
    pub(crate) fn operation(&self) -> String {
        if let Some(target) = self.header("x-amz-target") {
            return target.rsplit('.').next().unwrap_or(target).to_owned();
        }
        let body = String::from_utf8_lossy(&self.body);
        let action = body
            .split('&')
            .find_map(|field| field.strip_prefix("Action="));
        let path = || self.first_line.split(' ').nth(1).unwrap_or_default();
        action.unwrap_or_else(path).to_owned()
    }

    /// Returns the same request for a connection of its own, in HTTP/1.0. The response then ends
    /// with the connection and is not chunked.
    pub(crate) fn without_keep_alive(&self) -> Vec<u8> {
        let request = self
            .first_line
            .rsplit_once(' ')
            .map_or(self.first_line.as_str(), |(request, _)| request);
        let mut text = format!("{request} HTTP/1.0\r\n");
        for header in self
            .headers
            .iter()
            .filter(|header| !belongs_to_connection(header))
        {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("Connection: close\r\n\r\n");
        [text.as_bytes(), &self.body].concat()
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    /// From the status on: `200 OK`.
    status: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Response {
    /// Returns a response of the proxy itself.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let headers = vec!["Content-Type: application/x-amz-json-1.1".to_owned()];
        Self {
            status: format!("{status} InjectedFault"),
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    /// Parses everything that was received on a connection.
    pub(crate) fn parse(mut bytes: &[u8]) -> io::Result<Self> {
        let stream = &mut bytes;
        let (first_line, mut headers) = read_head(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (_, status) = first_line
            .split_once(' ')
            .ok_or_else(|| invalid("a response without a status"))?;
        let mut body = Vec::new();
        stream.read_to_end(&mut body)?;
        if header_value(&headers, "content-length")
            .is_some_and(|length| length.parse() != Ok(body.len()))
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        headers.retain(|header| {
            !belongs_to_connection(header) && header_name(header) != "content-length"
        });
        Ok(Self {
            status: status.to_owned(),
            headers,
            body,
        })
    }

    /// Returns the status code.
    pub(crate) fn code(&self) -> io::Result<u16> {
        let code = self.status.split(' ').next().unwrap_or_default();
        code.parse()
            .map_err(|_| invalid("a status that is not a number"))
    }

    /// Returns the body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [self.head().as_bytes(), &self.body].concat()
    }

    /// Returns the response up to the middle of its body.
    pub(crate) fn cut_in_half(&self) -> Vec<u8> {
        [self.head().as_bytes(), &self.body[..self.body.len() / 2]].concat()
    }

    fn head(&self) -> String {
        let mut text = format!("HTTP/1.1 {}\r\n", self.status);
        for header in &self.headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        text
    }
}

/// Reads the first line and the headers of the next message; `None` at the end of the stream.
fn read_head(stream: &mut impl BufRead) -> io::Result<Option<(String, Vec<String>)>> {
    let Some(first_line) = read_line(stream)? else {
        return Ok(None);
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some((first_line, headers)));
        }
        headers.push(line);
    }
}

/// Reads the next line, without its line break; `None` at the end of the stream.
fn read_line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("a header that is not text"))?;
    text.strip_suffix("\r\n")
        .map(|line| Some(line.to_owned()))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn header_value<'a>(headers: &'a [String], wanted: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|header| header_name(header) == wanted)?
        .split_once(':')
        .map(|(_, value)| value.trim())
}

fn header_name(header: &str) -> String {
    header
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
}

fn belongs_to_connection(header: &str) -> bool {
    CONNECTION_HEADERS.contains(&header_name(header).as_str())
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
