//! An event as one line of JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// Returns an object with the seconds since the start, the event's name, and its fields.
pub(super) fn object(seconds: f64, event: &str, fields: &Value) -> String {
    let mut line = format!(r#"{{"seconds":{seconds:.3},"event":{}"#, json!(event));
    for (name, value) in fields.as_object().into_iter().flatten() {
        let _ = write!(line, ",{}:{value}", json!(name));
    }
    line.push('}');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_name_come_first_and_texts_are_escaped() {
        assert_eq!(
            object(
                1.23456,
                "plain_pool_failed",
                &json!({ "error": "user \"plain\"\n" })
            ),
            r#"{"seconds":1.235,"event":"plain_pool_failed","error":"user \"plain\"\n"}"#
        );
        assert_eq!(
            object(0.0, "start", &Value::Null),
            r#"{"seconds":0.000,"event":"start"}"#
        );
    }
}
