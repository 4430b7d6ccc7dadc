//! YAML as a format of the configuration crate.
//!
//! The crate's own reader turns the scalar `0123` into the number 123, which is another password.
//! Here, a scalar without quotes is a number only if its text is that of the number. Merge keys
//! (`<<`) are merged. A message has a position, and no value.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::str::Chars;

use config::{FileStoredFormat, Format, Map, Value, ValueKind};
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

/// Key whose tables are merged into the one that contains it.
const MERGE: &str = "<<";
/// Prefix of YAML's own tags.
const OWN_TAGS: &str = "tag:yaml.org,2002:";

/// The format of `.yaml` and `.yml` files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yaml;

impl FileStoredFormat for Yaml {
    fn file_extensions(&self) -> &'static [&'static str] {
        &["yaml", "yml"]
    }
}

impl Format for Yaml {
    fn parse(
        &self,
        _: Option<&String>,
        text: &str,
    ) -> Result<Map<String, Value>, Box<dyn Error + Send + Sync>> {
        let reader = Reader {
            parser: Parser::new_from_str(text),
            anchors: HashMap::new(),
        };
        Ok(reader.document()?)
    }
}

/// An error with its position.
#[derive(Debug)]
struct YamlError {
    line: usize,
    /// From 1.
    column: usize,
    message: String,
}

impl YamlError {
    fn at(mark: Marker, message: impl Into<String>) -> Self {
        Self {
            line: mark.line(),
            column: mark.col() + 1,
            message: message.into(),
        }
    }
}

impl From<ScanError> for YamlError {
    /// The texts of the scanner are constant.
    fn from(error: ScanError) -> Self {
        Self::at(*error.marker(), error.info())
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
        } = self;
        write!(
            f,
            "YAML parse error at line {line}, column {column}\n{message}"
        )
    }
}

impl Error for YamlError {}

struct Reader<'t> {
    parser: Parser<Chars<'t>>,
    /// The values that an alias repeats, by the number of their anchor.
    anchors: HashMap<usize, Value>,
}

impl Reader<'_> {
    /// Reads the only document. An empty one has no keys.
    fn document(mut self) -> Result<Map<String, Value>, YamlError> {
        let mut root = None;
        loop {
            let (event, mark) = self.parser.next_token()?;
            match event {
                Event::StreamEnd => return Ok(root.unwrap_or_default()),
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart if root.is_some() => {
                    return Err(YamlError::at(
                        mark,
                        "a second document begins; give only one",
                    ));
                }
                Event::DocumentStart => {}
                event => {
                    let value = self.value(event, mark)?;
                    root = Some(match value.kind {
                        ValueKind::Table(table) => table,
                        ValueKind::Nil => Map::new(),
                        _ => return Err(YamlError::at(mark, "the file has no keys")),
                    });
                }
            }
        }
    }

    fn value(&mut self, event: Event, mark: Marker) -> Result<Value, YamlError> {
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(text, style, tag, mark)?, anchor),
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.parser.next_token()? {
                        (Event::SequenceEnd, _) => break,
                        (event, mark) => items.push(self.value(event, mark)?),
                    }
                }
                (ValueKind::Array(items), anchor)
            }
            Event::MappingStart(anchor, _) => (ValueKind::Table(self.table()?), anchor),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let unknown = || YamlError::at(mark, "the alias is inside the value it repeats");
                return value.ok_or_else(unknown);
            }
            _ => return Err(YamlError::at(mark, "a value is missing")),
        };
        let value = Value::new(None, value);
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn table(&mut self) -> Result<Map<String, Value>, YamlError> {
        let mut table = Map::new();
        let mut merged = Vec::new();
        loop {
            let (key, mark) = match self.parser.next_token()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(key, style, ..), mark) => {
                    if key == MERGE && style == TScalarStyle::Plain {
                        let (event, mark) = self.parser.next_token()?;
                        merged.extend(tables(self.value(event, mark)?, mark)?);
                        continue;
                    }
                    (key, mark)
                }
                (_, mark) => return Err(YamlError::at(mark, "a key is not a name")),
            };
            let (event, of_value) = self.parser.next_token()?;
            let value = self.value(event, of_value)?;
            if table.insert(key, value).is_some() {
                return Err(YamlError::at(mark, "the key is given twice"));
            }
        }
        for (key, value) in merged.into_iter().flatten() {
            table.entry(key).or_insert(value);
        }
        Ok(table)
    }
}

/// Returns the tables of a merge key: one, or a list whose first tables have precedence.
fn tables(value: Value, mark: Marker) -> Result<Vec<Map<String, Value>>, YamlError> {
    match value.kind {
        ValueKind::Table(table) => Ok(vec![table]),
        ValueKind::Array(values) => {
            let tables = values.into_iter().map(|value| tables(value, mark));
            let tables: Result<Vec<_>, _> = tables.collect();
            Ok(tables?.into_iter().flatten().collect())
        }
        _ => Err(YamlError::at(mark, "`<<` needs the alias of a table")),
    }
}

fn scalar(
    text: String,
    style: TScalarStyle,
    tag: Option<Tag>,
    mark: Marker,
) -> Result<ValueKind, YamlError> {
    let is_text = match tag {
        Some(tag) if tag.handle != OWN_TAGS => {
            return Err(YamlError::at(mark, "a tag (`!`) is not supported"));
        }
        Some(tag) => tag.suffix == "str",
        None => false,
    };
    if is_text || style != TScalarStyle::Plain {
        return Ok(ValueKind::String(text));
    }
    Ok(match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => ValueKind::Nil,
        "true" | "True" | "TRUE" => ValueKind::Boolean(true),
        "false" | "False" | "FALSE" => ValueKind::Boolean(false),
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => ValueKind::I64(number),
            _ => ValueKind::String(text),
        },
    })
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn read(text: &str) -> Result<Json, String> {
        let read = config::Config::builder()
            .add_source(config::File::from_str(text, Yaml))
            .build();
        let value = read.and_then(config::Config::try_deserialize);
        value.map_err(|error| error.to_string())
    }

    #[test]
    fn a_scalar_keeps_its_text_unless_it_is_that_of_a_number() {
        let text =
            "a: 0123\nb: 5432\nc: 1.10\nd: 1e3\ne: 0x10\nf: '5'\ng: !!str 7\nh: true\ni: ~\n";
        let expected = json!({
            "a": "0123", "b": 5432, "c": "1.10", "d": "1e3", "e": "0x10", "f": "5", "g": "7",
            "h": true, "i": null,
        });
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn merge_keys_and_aliases_repeat_a_table() {
        let text = "base: &base {port: 1, user: u}\nmore: &more\n  port: 2\n\
                    one:\n  <<: *base\n  user: own\ntwo:\n  <<: [*more, *base]\nthree: *more\n";
        let read = read(text).expect("it is valid");
        assert_eq!(read["one"], json!({"port": 1, "user": "own"}));
        assert_eq!(read["two"], json!({"port": 2, "user": "u"}));
        assert_eq!(read["three"], json!({"port": 2}));
    }

    #[test]
    fn an_error_has_a_position_and_no_value() {
        for (text, place, word) in [
            ("a: 1\nb: 2\na: s3cret\n", "line 3, column 1", "twice"),
            ("a:\n\tb: s3cret\n", "line", "tab"),
            (
                "a: 1\n---\nb: s3cret\n",
                "line 2, column 1",
                "second document",
            ),
            ("- s3cret\n", "line 1", "no keys"),
            ("a: !secret s3cret\n", "line 1", "tag"),
            ("a: &a [s3cret, *a]\n", "line 1", "inside"),
            ("a:\n  <<: s3cret\n", "line 2", "alias of a table"),
            ("a: \"s3cret\n b: [", "line", ""),
            ("? [s3cret]\n: 1\n", "line 1", "not a name"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(place) && error.contains(word), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert_eq!(read(""), Ok(json!({})));
        assert_eq!(read("# nothing\n"), Ok(json!({})));
    }
}
