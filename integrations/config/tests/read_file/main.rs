//! Reading of configuration files, and the problems that are reported.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use claviger_config::{Config, ConfigError, Problem};
use serde_json::Value;
use tempfile::TempDir;

/// A configuration file in a folder of its own.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn toml(text: &str) -> Self {
        Self::named("claviger.toml", text)
    }

    fn named(name: &str, text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        Self {
            _folder: folder,
            path,
        }
    }

    fn load(&self) -> Result<Config, ConfigError> {
        let config = Config::load(&self.path)?;
        config.check()?;
        Ok(config)
    }

    /// Returns the problems of the file.
    fn problems(&self) -> Vec<Problem> {
        let error = self.load().expect_err("it is invalid");
        error.problems().to_vec()
    }
}

/// Asserts that the text has one problem: this key, and a message with this word.
fn assert_problem(text: &str, key: &str, word: &str) {
    let problems = File::toml(text).problems();
    let [problem] = problems.as_slice() else {
        panic_with(text, &problems);
        return;
    };
    assert!(
        problem.key == key && problem.message.contains(word),
        "{text}\n{problem:?}"
    );
}

fn panic_with(text: &str, problems: &[Problem]) {
    assert_eq!(problems.len(), 1, "{text}\n{problems:?}");
}

const POOL: &str = "host = \"db\"\nuser = \"orders\"\npassword = \"file:/etc/orders\"\n";

#[test]
fn thirty_pools_with_and_without_iam_are_read() {
    let mut text = "[defaults]\nmax_connections = 10\nconnection_max_lifetime = \"14m\"\n\
                    idle_timeout = \"10m\"\n"
        .to_owned();
    for nth in 0..30 {
        let credentials = if nth % 2 == 0 {
            "aws_iam_auth = true"
        } else {
            "password = \"file:/etc/orders/password\""
        };
        text += &format!(
            "[pools.database-{nth}]\nhost = \"db{nth}.c1.eu-west-1.rds.amazonaws.com\"\n\
             user = \"app\"\n{credentials}\n"
        );
    }
    let loaded = File::toml(&text).load();
    if cfg!(feature = "rds-iam") {
        drop(loaded.expect("it is valid"));
    } else {
        let error = loaded.expect_err("a feature is missing");
        assert_eq!(error.problems().len(), 15);
        assert!(error.to_string().contains("rds-iam"), "{error}");
    }
}

#[test]
fn an_unknown_key_is_an_error_with_the_nearest_known_one() {
    for (text, key, word) in [
        (
            "[pool.orders]\nhost = \"db\"\n".to_owned(),
            "pool",
            "`pools`",
        ),
        (
            format!("[pools.orders]\n{POOL}max_conections = 3\n"),
            "pools.orders.max_conections",
            "`max_connections`",
        ),
        (
            format!("[pools.orders]\n{POOL}max_lifetime = \"14m\"\n"),
            "pools.orders.max_lifetime",
            "`connection_max_lifetime`",
        ),
        (
            format!("[pools.orders]\n{POOL}zzz = 1\n"),
            "pools.orders.zzz",
            "give one of",
        ),
        (
            "[providers.a]\nkind = \"flie\"\npath = \"/a\"\nformat = \"json\"\n".to_owned(),
            "providers.a.kind",
            "`file`",
        ),
        (
            "[providers.a]\nkind = \"file\"\npth = \"/a\"\npath = \"/a\"\nformat = \"json\"\n"
                .to_owned(),
            "providers.a.pth",
            "`path`",
        ),
        (
            "[providers.a]\npath = \"/a\"\n".to_owned(),
            "providers.a",
            "`kind`",
        ),
        (
            "[providers.a]\nkind = \"file\"\nformat = \"json\"\n".to_owned(),
            "providers.a",
            "`path`",
        ),
        (
            "[supervisor]\nstart_dedline = \"3s\"\n".to_owned(),
            "supervisor.start_dedline",
            "`start_deadline`",
        ),
        (
            format!("[pools.orders]\n{POOL}ssl_mode = \"verify_full\"\n"),
            "pools.orders.ssl_mode",
            "`verify-full`",
        ),
    ] {
        assert_problem(&text, key, word);
    }
}

#[test]
fn a_value_of_a_wrong_type_is_named_without_the_value() {
    for (line, key, word) in [
        ("port = \"s3cret\"", "pools.orders.port", "0 to 65535"),
        ("port = 70000", "pools.orders.port", "0 to 65535"),
        ("port = -1", "pools.orders.port", "0 to 65535"),
        (
            "max_connections = true",
            "pools.orders.max_connections",
            "whole number",
        ),
        (
            "aws_iam_auth = \"s3cret\"",
            "pools.orders.aws_iam_auth",
            "true nor false",
        ),
        (
            "idle_timeout = \"s3cret\"",
            "pools.orders.idle_timeout",
            "14m",
        ),
        ("idle_timeout = 10", "pools.orders.idle_timeout", "14m"),
        (
            "application_name = [\"s3cret\"]",
            "pools.orders.application_name",
            "not a string",
        ),
    ] {
        let text = format!("[pools.orders]\n{POOL}{line}\n");
        let problems = File::toml(&text).problems();
        let shown = format!("{problems:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_problem(&text, key, word);
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "[pools.a]\nhots = \"x\"\nport = \"y\"\n[pools.b]\nkind = \"postgrs\"\n";
    let keys: Vec<_> = File::toml(text)
        .problems()
        .into_iter()
        .map(|problem| problem.key)
        .collect();
    assert_eq!(keys, ["pools.a.hots", "pools.a.port", "pools.b.kind"]);
}

#[test]
fn a_secret_in_the_file_is_an_error_unless_it_is_for_development() {
    let pools = [
        "[pools.orders]\nhost = \"db\"\nuser = \"orders\"\npassword = \"s3cret\"\n",
        "[pools.orders]\nurl = \"postgres://orders:s3cret@db/orders\"\n",
        "[providers.a]\nkind = \"static\"\nuser = \"orders\"\npassword = \"s3cret\"\n",
        "[vaults.a]\naddress = \"https://vault\"\nauth = { kind = \"token\", token = \"s3cret\" }\n",
    ];
    for text in pools {
        let problems = File::toml(text).problems();
        let shown = format!("{problems:?}");
        assert!(shown.contains("development"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
        let config = File::toml(&format!("development = true\n{text}")).load();
        let shown = format!("{:?}", config.expect("it is for development"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn credentials_come_from_one_place() {
    for (lines, key, word) in [
        ("host = \"db\"", "pools.orders.provider", "missing"),
        (
            "host = \"db\"\nprovider = \"oders\"",
            "pools.orders.provider",
            "`orders`",
        ),
        (
            "host = \"db\"\nuser = \"u\"\nprovider = \"orders\"\npassword = \"file:/a\"",
            "pools.orders.password",
            "beside `provider`",
        ),
        (
            "host = \"db\"\npassword = \"file:/a\"",
            "pools.orders.user",
            "missing",
        ),
        (
            "url = \"http://db\"\nprovider = \"orders\"",
            "pools.orders.url",
            "scheme",
        ),
        (
            "kind = \"mysql\"\nurl = \"postgres://db\"\nprovider = \"orders\"",
            "pools.orders.url",
            "kind",
        ),
        (
            "host = \"db\"\nprovider = \"orders\"\nregion = \"eu-west-1\"",
            "pools.orders.region",
            "aws_iam_auth",
        ),
        (
            "host = \"db\"\nprovider = \"orders\"\nclient_key_file = \"/key\"",
            "pools.orders.client_certificate_file",
            "missing",
        ),
    ] {
        let provider = "[providers.orders]\nkind = \"file\"\npath = \"/a\"\nformat = \"json\"\n";
        let text = format!("[pools.orders]\n{lines}\n{provider}");
        let problems = File::toml(&text).problems();
        let found = problems
            .iter()
            .any(|problem| problem.key == key && problem.message.contains(word));
        assert!(found, "{text}\n{problems:?}");
    }
}

#[test]
fn settings_of_tls_that_protect_nothing_are_errors() {
    let pool = "[pools.orders]\nhost = \"db\"\nuser = \"u\"\npassword = \"file:/a\"\n";
    for (lines, key, word) in [
        (
            "ssl_mode = \"prefer\"\nca_file = \"/ca\"",
            "pools.orders.ca_file",
            "verify-full",
        ),
        (
            "url = \"postgres://db?sslmode=verify_full\"",
            "pools.orders.url",
            "verify-full",
        ),
        (
            "url = \"postgres://db?pasword=s3cret\"",
            "pools.orders.url",
            "parameter",
        ),
        (
            "max_connections = 0",
            "pools.orders.max_connections",
            "at least 1",
        ),
        (
            "max_connections = 10001",
            "pools.orders.max_connections",
            "at most 10000",
        ),
        (
            "max_connections = 2\noverlap = 3",
            "pools.orders.overlap",
            "from 1 to the 2",
        ),
        (
            "acquire_timeout = \"25h\"",
            "pools.orders.acquire_timeout",
            "over 1day",
        ),
        (
            "acquire_timeout = \"0s\"",
            "pools.orders.acquire_timeout",
            "at least 1s",
        ),
        (
            "max_connections = 2\nmin_connections = 3",
            "pools.orders.min_connections",
            "over the 2",
        ),
    ] {
        assert_problem(&format!("{pool}{lines}\n"), key, word);
    }
}

#[test]
fn the_content_of_a_key_file_is_in_no_message() {
    let file = File::named("key.pem", "s3cret\n");
    let text = format!(
        "[providers.a]\nkind = \"file\"\nformat = \"json\"\npath = \"file:{}\"\nusr = \"x\"\n",
        file.path.display()
    );
    let shown = format!("{:?}", File::toml(&text).problems());
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_default_or_a_longer_text_is_a_secret_in_the_file() {
    for password in ["${PW:-s3cret}", "s3cret$${x", "s3cret${PW}"] {
        let text = format!(
            "[pools.orders]\n{}",
            POOL.replace("file:/etc/orders", password)
        );
        let shown = format!("{:?}", File::toml(&text).problems());
        assert!(shown.contains("development"), "{password}: {shown}");
    }
}

#[test]
fn nodes_are_only_for_a_cluster() {
    let pool = "[pools.cache]\npassword = \"file:/a\"\n";
    let cluster = format!("{pool}kind = \"redis-cluster\"\n");
    for nodes in [
        "[\"a\", \"[::1]:7000\"]",
        "\"a, b:${CLAVIGER_TEST_ABSENT:-1}\"",
        "\"${CLAVIGER_TEST_ABSENT:-a,b}\"",
    ] {
        let text = format!("{cluster}nodes = {nodes}\n");
        if cfg!(feature = "redis") {
            drop(File::toml(&text).load().expect("it is valid"));
        }
    }
    if cfg!(feature = "redis") {
        for node in ["", "redis://a:1", "u:s3cret@a", "a/1", "a:port"] {
            let text = format!("{cluster}nodes = [\"a\", \"{node}\"]\n");
            assert_problem(&text, "pools.cache.nodes", "host:port");
        }
        let text = format!("{pool}kind = \"redis\"\nhost = \"a\"\nnodes = [\"b\"]\n");
        assert_problem(&text, "pools.cache.nodes", "no effect");
        let text = format!("{cluster}host = \"a\"\ndatabase = \"1\"\n");
        assert_problem(&text, "pools.cache.database", "cluster");
    }
    let text = format!("{pool}kind = \"redis-cluster\"\nnodes = 1\n");
    assert_problem(&text, "pools.cache.nodes", "not a list");
}

#[test]
fn two_providers_of_one_name_are_an_error() {
    let of_file = "[providers.a]\nkind = \"file\"\npath = \"/a\"\nformat = \"json\"\n";
    let pool = format!("[pools.orders]\n{POOL}");
    let provider = || claviger::static_credentials(claviger::Credentials::new("u", "p"));
    for (text, names, word) in [
        ("", ["b", "b"], "providers.b: is added twice"),
        (of_file, ["a", "b"], "providers.a: is also registered"),
        (&pool, ["orders-credentials", "b"], "pools.orders.provider"),
    ] {
        let config = File::toml(text).load().expect("it is valid");
        let [first, second] = names;
        let config = config.with_provider(first, provider());
        let config = config.with_provider(second, provider());
        let error = config.check().expect_err(word);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.problems().len(), 1, "{error}");
    }
}

#[test]
fn a_user_beside_a_provider_is_an_error() {
    let provider = "[providers.a]\nkind = \"file\"\npath = \"/a\"\nformat = \"json\"\n";
    let pool = "[pools.orders]\nhost = \"db\"\nprovider = \"a\"\nuser = \"u\"\n";
    assert_problem(
        &format!("{provider}{pool}"),
        "pools.orders.user",
        "provider",
    );
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let text = format!("[pools.orders]\n{POOL}database = \"${{CLAVIGER_TEST_ABSENT}}\"\n");
    assert_problem(&text, "pools.orders.database", "CLAVIGER_TEST_ABSENT");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load("/absent/claviger.toml").expect_err("it is absent");
    assert!(
        error.to_string().contains("/absent/claviger.toml"),
        "{error}"
    );
    let error = File::named("claviger.ini", "")
        .load()
        .expect_err("no such format");
    assert!(error.to_string().contains(".toml"), "{error}");
}

#[test]
fn yaml_has_the_same_keys() {
    let text =
        "pools:\n  orders:\n    host: db\n    user: orders\n    password: file:/etc/orders\n";
    drop(
        File::named("claviger.yaml", text)
            .load()
            .expect("it is valid"),
    );
}

/// Returns whether a value is valid by the keywords that the schema uses for single values.
fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(path) = schema["$ref"].as_str() {
        let schema = root.pointer(path.trim_start_matches('#'));
        return accepts(root, schema.expect("it is defined"), value);
    }
    let any = schema["anyOf"].as_array().or(schema["oneOf"].as_array());
    if let Some(any) = any {
        return any.iter().any(|schema| accepts(root, schema, value));
    }
    if let Some(name) = schema.get("const") {
        return name == value;
    }
    let kind = match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        _ => "string",
    };
    let kinds = &schema["type"];
    let has_kind = kinds == kind
        || kinds
            .as_array()
            .is_some_and(|kinds| kinds.contains(&kind.into()));
    let text = value.as_str().unwrap_or_default();
    let is_reference = text.starts_with("file:") || text.contains("${");
    has_kind && (schema.get("pattern").is_none() || is_reference)
}

#[test]
fn a_reference_is_valid_for_the_loader_and_for_editors() {
    let root = Config::json_schema();
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
    ] {
        let text = format!("[pools.orders]\n{POOL}{key} = \"{reference}\"\n");
        drop(File::toml(&text).load().expect("the loader accepts it"));
        let schema = &root["$defs"]["PoolSettings"]["properties"][key];
        let parsed = |text: &str| serde_json::from_str(text).expect("JSON");
        assert!(accepts(&root, schema, &reference.into()), "{key}");
        assert!(accepts(&root, schema, &parsed(valid)), "{key}");
        assert!(!accepts(&root, schema, &parsed(invalid)), "{key}");
    }
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
