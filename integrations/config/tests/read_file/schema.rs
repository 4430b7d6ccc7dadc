//! The JSON schema: what it accepts, and that it is published.

use boon::{Compiler, SchemaIndex, Schemas};
use claviger_config::Config;
use config::{Config as Sources, File, FileFormat};
use serde_json::Value;

use crate::{File as ConfigFile, POOL};

/// Validates files by the JSON schema, as an editor does.
pub(crate) struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    pub(crate) fn new() -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        let added = compiler.add_resource("claviger.schema.json", Config::json_schema());
        added.expect("a schema");
        let index = compiler.compile("claviger.schema.json", &mut schemas);
        let index = index.expect("a valid schema");
        Self { schemas, index }
    }

    /// Returns whether a TOML file is valid.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        let file = Sources::builder().add_source(File::from_str(text, FileFormat::Toml));
        let value: Value = file
            .build()
            .and_then(Sources::try_deserialize)
            .expect("TOML");
        self.schemas.validate(&value, self.index).is_ok()
    }
}

#[test]
fn a_reference_is_valid_for_the_loader_and_for_editors() {
    let validator = Validator::new();
    for (key, reference, valid, invalid) in [
        ("port", "${CLAVIGER_TEST_ABSENT:-5433}", "5433", "\"x\""),
        ("max_connections", "${CLAVIGER_TEST_ABSENT:-3}", "3", "true"),
        (
            "aws_iam_auth",
            "${CLAVIGER_TEST_ABSENT:-false}",
            "false",
            "\"x\"",
        ),
        (
            "ssl_mode",
            "${CLAVIGER_TEST_ABSENT:-prefer}",
            "\"prefer\"",
            "\"x\"",
        ),
        (
            "kind",
            "${CLAVIGER_TEST_ABSENT:-postgres}",
            "\"postgres\"",
            "\"x\"",
        ),
        (
            "idle_timeout",
            "${CLAVIGER_TEST_ABSENT:-10m}",
            "\"1h 30m\"",
            "\"x\"",
        ),
    ] {
        let text = |value: &str| format!("[pools.orders]\n{POOL}{key} = {value}\n");
        let with_reference = text(&format!("\"{reference}\""));
        drop(
            ConfigFile::toml(&with_reference)
                .load()
                .expect("it is valid"),
        );
        assert!(validator.accepts(&with_reference), "{key}");
        assert!(validator.accepts(&text(valid)), "{key}");
        assert!(!validator.accepts(&text(invalid)), "{key}");
    }
}

#[test]
fn the_schema_accepts_the_files_of_the_documents() {
    let readme = include_str!("../../README.md");
    let examples = readme.split("```toml\n").skip(1);
    let mut count = 0;
    for example in examples {
        let (text, _) = example.split_once("```").expect("an end");
        assert!(Validator::new().accepts(text), "{text}");
        count += 1;
    }
    assert!(count >= 2, "{count} examples");
}

#[test]
fn the_published_schema_equals_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/claviger.schema.json");
    let published = std::fs::read_to_string(path).expect("the schema");
    let published: Value = serde_json::from_str(&published).expect("JSON");
    assert!(
        published == Config::json_schema(),
        "claviger.schema.json is outdated; \
         `cargo run -p claviger-config --features full --example schema` prints it"
    );
}
