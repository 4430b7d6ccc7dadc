//! Commands and responses of Redis's protocol.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::doctor::network::Stream;
use crate::doctor::protocol::OtherProtocol;

/// Longest line and text that are read, in bytes.
const LONGEST: usize = 16_384;
/// Longest part of another protocol that is read, in bytes.
const LONGEST_OTHER: usize = 512;
/// Most values of a response.
const MOST: usize = 256;

/// A response, as far as a diagnosis needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A text or number.
    Text(String),
    Error(String),
    /// A list or set, or keys and values of a map in turn.
    List(Vec<Value>),
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of a key in a map.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let Self::List(values) = self else {
            return None;
        };
        let mut pairs = values.chunks(2);
        let pair = pairs.find(|pair| pair[0].text() == Some(key));
        pair?.get(1)?.text()
    }
}

/// Sends a command and reads its response.
pub(super) async fn command(stream: &mut dyn Stream, words: &[&str]) -> io::Result<Value> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n", word.len()).bytes());
        request.extend(word.bytes());
        request.extend(b"\r\n");
    }
    stream.write_all(&request).await?;
    stream.flush().await?;
    read(stream).await
}

/// Reads a response. The depth of lists is limited by the number of values.
async fn read(stream: &mut dyn Stream) -> io::Result<Value> {
    // Lists that are not complete, each with the number of values that it still needs.
    let mut open: Vec<(usize, Vec<Value>)> = Vec::new();
    let mut count = 0;
    loop {
        count += 1;
        let line = line(stream).await?;
        let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
        let number = rest.parse::<i64>().unwrap_or(-1);
        let of_list = |factor: usize| match usize::try_from(number) {
            Ok(number) if number <= MOST => Ok(number * factor),
            Ok(_) => Err(invalid()),
            // A list that is null.
            Err(_) => Ok(0),
        };
        let mut value = match kind {
            "-" => Value::Error(rest.to_owned()),
            "$" | "=" => Value::Text(text(stream, number).await?),
            "!" => Value::Error(text(stream, number).await?),
            "*" | "~" | "%" => {
                let missing = of_list(if kind == "%" { 2 } else { 1 })?;
                if missing > 0 {
                    open.push((missing, Vec::new()));
                    if count > MOST {
                        return Err(invalid());
                    }
                    continue;
                }
                Value::List(Vec::new())
            }
            "+" | ":" | "," | "#" | "(" | "_" => Value::Text(rest.to_owned()),
            _ => return Err(invalid()),
        };
        loop {
            let Some((missing, values)) = open.last_mut() else {
                return Ok(value);
            };
            values.push(value);
            *missing -= 1;
            if *missing > 0 {
                break;
            }
            value = Value::List(open.pop().map(|(_, values)| values).unwrap_or_default());
        }
        if count > MOST {
            return Err(invalid());
        }
    }
}

async fn text(stream: &mut dyn Stream, length: i64) -> io::Result<String> {
    let Ok(length) = usize::try_from(length) else {
        return Ok(String::new());
    };
    if length > LONGEST {
        return Err(invalid());
    }
    let mut bytes = vec![0; length + 2];
    stream.read_exact(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    Ok(text.into_owned())
}

async fn line(stream: &mut dyn Stream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
        if !is_response(line[0]) {
            return Err(other_protocol(stream, line[0]).await.into());
        }
        if line.len() > LONGEST {
            return Err(invalid());
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Returns whether a response begins with this byte.
fn is_response(byte: u8) -> bool {
    b"+-:$*_#,(!=%~>|\r".contains(&byte)
}

/// Reads the rest of what a server sent that is no response of Redis.
async fn other_protocol(stream: &mut dyn Stream, first: u8) -> OtherProtocol {
    let mut sent = vec![first; LONGEST_OTHER];
    let length = stream.read(&mut sent[1..]).await.unwrap_or_default();
    OtherProtocol::new("Redis", &sent[..=length])
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the server does not respond as Redis",
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    async fn parse(text: &str) -> io::Result<Value> {
        let (mut one, mut other) = tokio::io::duplex(1_024);
        other.write_all(text.as_bytes()).await.expect("written");
        drop(other);
        read(&mut one).await
    }

    #[tokio::test]
    async fn a_map_with_lists_is_read_to_its_end() {
        let text = "%3\r\n$4\r\nmode\r\n$7\r\ncluster\r\n+proto\r\n:3\r\n$7\r\nmodules\r\n*0\r\n";
        let value = parse(text).await.expect("a map");
        assert_eq!(value.get("mode"), Some("cluster"));
        assert_eq!(value.get("proto"), Some("3"));
        assert_eq!(value.get("modules"), None);
        let nested = parse("*2\r\n*1\r\n+a\r\n-ERR b\r\n").await.expect("a list");
        let inner = Value::List(vec![Value::Text("a".to_owned())]);
        let error = Value::Error("ERR b".to_owned());
        assert_eq!(nested, Value::List(vec![inner, error]));
    }

    #[tokio::test]
    async fn an_error_of_each_form_is_an_error() {
        for text in ["-ERR b\r\n", "!5\r\nERR b\r\n"] {
            let error = Value::Error("ERR b".to_owned());
            assert_eq!(parse(text).await.expect(text), error, "{text:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_response_is_an_error() {
        for text in [
            "\x15\x03\x03",
            "HTTP/1.1 400\r\n",
            "*999999\r\n",
            "$99999999\r\n",
        ] {
            let error = parse(text).await.expect_err(text);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
        let cut = parse("$5\r\nab").await.expect_err("cut");
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
