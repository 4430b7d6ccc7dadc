//! Reading of configuration files, and the problems that are reported.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod schema;
mod tokens;
mod typos;

use std::path::PathBuf;

use claviger_config::{Config, ConfigError, Problem};
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

/// Thirty databases by name, some with IAM tokens. All have at most ten connections, which are
/// closed at an age of 14 minutes, or when they were idle for 10 minutes.
#[test]
fn thirty_pools_with_and_without_iam_are_read() {
    let settings =
        "max_connections = 10\nconnection_max_lifetime = \"14m\"\nidle_timeout = \"10m\"\n";
    let mut of_defaults = format!("[defaults]\n{settings}");
    let mut of_pools = String::new();
    for nth in 0..30 {
        let credentials = if nth % 2 == 0 {
            "aws_iam_auth = true"
        } else {
            "password = \"file:/etc/orders/password\""
        };
        let pool = format!(
            "[pools.database-{nth}]\nhost = \"db{nth}.c1.eu-west-1.rds.amazonaws.com\"\n\
             user = \"app\"\n{credentials}\n"
        );
        of_defaults += &pool;
        of_pools += &format!("{pool}{settings}");
    }
    for text in [of_defaults, of_pools] {
        assert!(schema::Validator::new().accepts(&text), "{text}");
        let loaded = File::toml(&text).load();
        if cfg!(feature = "rds-iam") {
            let config = loaded.expect("it is valid");
            assert_eq!(config.pool_names().count(), 30);
        } else {
            let error = loaded.expect_err("a feature is missing");
            assert_eq!(error.problems().len(), 15);
            assert!(error.to_string().contains("rds-iam"), "{error}");
        }
        // A typo in one of thirty is found by the loader and by editors.
        let typo = text.replacen("aws_iam_auth", "aws_iam_auht", 1);
        assert!(!schema::Validator::new().accepts(&typo));
        let error = File::toml(&typo).load().expect_err("a typo").to_string();
        let named = "pools.database-0.aws_iam_auht: is unknown; did you mean `aws_iam_auth`?";
        assert!(error.contains(named), "{error}");
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
fn credentials_have_exactly_one_source() {
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
            "at least 1ms",
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
    for url in [
        "postgres://app:${PW:-s3/cret}@db/o",
        "postgres://app:${PW:-s3#cret}@db/o",
        "postgres://${USER:-a/b}:s3cret@db/o",
        "${URL:-postgres://app:s3cret@db/o}",
        "postgres://app:s3cret${PW}@db/o",
    ] {
        let text = format!("[pools.orders]\nurl = \"{url}\"\n");
        let shown = format!("{:?}", File::toml(&text).problems());
        assert!(shown.contains("development"), "{url}: {shown}");
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
        for node in ["redis://a:1", "u:s3cret@a", "a/1", "a:port"] {
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
fn names_have_the_supervisor_s_limit() {
    let text = |provider, pool| {
        let name = |bytes| "n".repeat(bytes);
        format!(
            "[providers.{}]\nkind = \"static\"\nuser = \"app\"\npassword = \"file:/etc/orders\"\n\
             [pools.{}]\nhost = \"db\"\nuser = \"app\"\n\
             password = \"file:/etc/orders\"\n",
            name(provider),
            name(pool)
        )
    };
    let valid = File::toml(&text(200, 188)).load();
    drop(valid.expect("it is valid"));
    for (text, table, words) in [
        (text(201, 188), "providers", "over 200 bytes"),
        (text(200, 189), "pools", "over 188 bytes"),
    ] {
        let problems = File::toml(&text).problems();
        let is_meant = |one: &Problem| one.key.starts_with(table) && one.message.contains(words);
        assert!(problems.iter().any(is_meant), "{problems:?}");
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
    // A key without a value counts as absent.
    let without_values = "    port:\n    kind:\n    ssl_mode:\n    idle_timeout:\n    url:\n";
    for text in [text.to_owned(), format!("{text}{without_values}")] {
        let file = File::named("claviger.yaml", &text);
        drop(file.load().expect("it is valid"));
    }
    let text = text.replace(" file:/etc/orders", "");
    let problems = File::named("claviger.yaml", &text).problems();
    assert_eq!(problems[0].key, "pools.orders.provider", "{problems:?}");
}
