//! The JSON schema of a configuration file, generated from its types.

use schemars::schema_for;
use serde_json::{Map, Value, json};

use crate::schema::File;

/// Name of the schema of references.
const REFERENCE: &str = "Reference";

/// Keywords that describe a key, and not the type of its value.
const DESCRIPTIONS: [&str; 3] = ["default", "description", "title"];

/// Returns the schema. Numbers, booleans, lists and names may also be references.
pub(crate) fn json_schema() -> Value {
    let mut schema = schema_for!(File).to_value();
    accept_references(&mut schema);
    let definitions = schema.get_mut("$defs").and_then(Value::as_object_mut);
    if let Some(definitions) = definitions {
        let reference = json!({
            "type": "string",
            "pattern": r"^file:|\$\{",
            "description": "A reference: `${NAME}`, `${NAME:-default}` or `file:/path`.",
            "examples": ["${PORT}", "${PORT:-5432}"],
        });
        definitions.insert(REFERENCE.to_owned(), reference);
    }
    schema
}

/// Adds references to all schemas of values that are no strings, and to lists of names.
fn accept_references(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(accept_references),
        Value::Object(keywords) => {
            keywords.values_mut().for_each(accept_references);
            let reference = json!({"$ref": format!("#/$defs/{REFERENCE}")});
            if is_no_string(keywords) {
                let is_described = |keyword: &String| DESCRIPTIONS.iter().any(|one| one == keyword);
                let (mut outer, mut of_value) = (Map::new(), Map::new());
                for (keyword, value) in std::mem::take(keywords) {
                    if is_described(&keyword) {
                        outer.insert(keyword, value);
                    } else {
                        of_value.insert(keyword, value);
                    }
                }
                outer.insert("anyOf".to_owned(), json!([of_value, reference]));
                *keywords = outer;
            } else if let Some(names) = names_of(keywords) {
                names.push(reference);
            }
        }
        _ => {}
    }
}

/// Returns whether this is the schema of a number, a boolean or a list.
fn is_no_string(keywords: &Map<String, Value>) -> bool {
    let is = |kind: &Value| {
        let kind = kind.as_str();
        matches!(kind, Some("array" | "boolean" | "integer" | "number"))
    };
    match keywords.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(is),
        Some(kind) => is(kind),
        None => false,
    }
}

/// Returns the names of which the value is one.
fn names_of(keywords: &mut Map<String, Value>) -> Option<&mut Vec<Value>> {
    let names = keywords.get_mut("oneOf")?.as_array_mut()?;
    let all_are_names = names.iter().all(|one| one.get("const").is_some());
    all_are_names.then_some(names)
}
