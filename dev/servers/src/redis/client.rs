//! The administrator's connection: commands over the Unix socket, without a client program.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::CommandError;

/// Timeout of a command. A stalled server does not respond.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A response of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Nil,
    Integer(i64),
    Text(String),
    List(Vec<Reply>),
    /// Contained in a list; the response as a whole is [`CommandError::Failed`].
    Error(String),
}

impl Reply {
    /// Returns the reply as text: a line for each element of a list.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Nil => String::new(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) | Self::Error(text) => text,
            Self::List(replies) => {
                let lines: Vec<_> = replies.into_iter().map(Self::into_text).collect();
                lines.join("\n")
            }
        }
    }
}

/// Connects, authenticates and runs one command.
pub(super) fn execute(
    socket: &Path,
    user: &str,
    password: &str,
    command: &[&str],
) -> Result<Reply, CommandError> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut server = BufReader::new(stream);
    send(&mut server, &["AUTH", user, password])?;
    send(&mut server, command)
}

fn send(server: &mut BufReader<UnixStream>, words: &[&str]) -> Result<Reply, CommandError> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    server.get_mut().write_all(request.as_bytes())?;
    match read(server)? {
        Reply::Error(message) => Err(CommandError::Failed(message)),
        reply => Ok(reply),
    }
}

fn read(server: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if server.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else {
        return Err(invalid(line));
    };
    let number = || rest.parse::<i64>().map_err(|_| invalid(line));
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => number().map(Reply::Integer),
        "$" => match usize::try_from(number()?) {
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                server.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(_) => Ok(Reply::Nil),
        },
        "*" => match number()? {
            ..0 => Ok(Reply::Nil),
            length => (0..length)
                .map(|_| read(server))
                .collect::<io::Result<_>>()
                .map(Reply::List),
        },
        _ => Err(invalid(line)),
    }
}

fn invalid(line: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a response of Redis: {line:?}"),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    #[test]
    fn responses_are_parsed() {
        for (bytes, expected) in [
            ("+OK\r\n", "OK"),
            (":17\r\n", "17"),
            ("$-1\r\n", ""),
            ("$4\r\na\r\nb\r\n", "a\r\nb"),
            ("*2\r\n:1\r\n$1\r\nx\r\n", "1\nx"),
            ("*-1\r\n", ""),
        ] {
            let reply = read(&mut bytes.as_bytes()).unwrap();
            assert_eq!(reply.into_text(), expected, "{bytes:?}");
        }
        assert_eq!(
            read(&mut "-ERR no\r\n".as_bytes()).unwrap(),
            Reply::Error("ERR no".to_owned())
        );
        for bytes in ["", "\r\n", "?\r\n", ":x\r\n", "$5\r\nabc"] {
            read(&mut bytes.as_bytes()).unwrap_err();
        }
    }
}
