//! Files with one error each: the message has a place, the problem, and what to give instead.

use claviger_config::Config;
use tempfile::TempDir;

use crate::schema::Validator;

/// A part of each file that no message may contain.
const SECRET: &str = "s3cret";

/// Whether the JSON schema rejects the file, too.
#[derive(Clone, Copy, PartialEq)]
enum Schema {
    Rejects,
    Accepts,
}
use Schema::{Accepts, Rejects};

/// Lines under `[pools.orders]`, the key of the problem, and a part of the message.
#[rustfmt::skip]
const IN_A_POOL: &[(&str, &str, &str, Schema)] = &[
    ("prot = 5432", "prot", "unknown; did you mean `port`?", Rejects),
    ("dbname = \"s3cret\"", "dbname", "did you mean `database`?", Rejects),
    ("username = \"s3cret\"", "username", "did you mean `user`?", Rejects),
    ("aws_iam = true", "aws_iam", "did you mean `aws_iam_auth`?", Rejects),
    ("aws-iam-auth = true", "aws-iam-auth", "did you mean `aws_iam_auth`?", Rejects),
    ("max_lifetime = \"14m\"", "max_lifetime", "`connection_max_lifetime`", Rejects),
    ("pool_size = 10", "pool_size", "`max_connections`", Rejects),
    ("idle_timeout = 10", "idle_timeout", "no unit; give one such as \"14m\"", Rejects),
    ("idle_timeout = \"10\"", "idle_timeout", "no unit; give one such as \"14m\"", Rejects),
    ("idle_timeout = \"10M\"", "idle_timeout", "`m` is minutes", Rejects),
    ("idle_timeout = \"10 mn\"", "idle_timeout", "unknown unit; give ms, s, m", Rejects),
    ("idle_timeout = \"-10m\"", "idle_timeout", "negative; give", Rejects),
    ("idle_timeout = \"10ms\"", "idle_timeout", "below 1s; give", Accepts),
    ("idle_timeout = true", "idle_timeout", "not a string; put it in quotes", Rejects),
    ("port = \"s3cret\"", "port", "whole number from 0 to 65535", Rejects),
    ("port = \"5432a\"", "port", "whole number from 0 to 65535", Rejects),
    ("port = 0", "port", "is 0; give one from 1 to 65535", Accepts),
    ("url = \"postgres://db:0/orders\"", "url", "port 0; give one from 1 to 65535", Accepts),
    ("port = 54320000", "port", "whole number from 0 to 65535", Rejects),
    ("max_connections = -1", "max_connections", "whole number from 0", Rejects),
    ("max_connections = 0", "max_connections", "at least 1", Accepts),
    ("max_connections = 2.5", "max_connections", "whole number", Rejects),
    ("max_connections = [10]", "max_connections", "whole number", Rejects),
    ("max_connections = 2\nmin_connections = 3", "min_connections", "at most that", Accepts),
    ("aws_iam_auth = \"yes\"", "aws_iam_auth", "true nor false; give one", Rejects),
    ("ssl_mode = \"verify_full\"", "ssl_mode", "did you mean `verify-full`?", Rejects),
    ("ssl_mode = \"full\"", "ssl_mode", "did you mean `verify-full`?", Rejects),
    ("kind = \"postgre\"", "kind", "did you mean `postgres`?", Rejects),
    ("kind = \"oracle\"", "kind", "give one of `postgres`, ", Rejects),
    ("handover = \"replace\"", "handover", "did you mean `always-replace`?", Rejects),
    ("database = \"\"", "database", "empty; give a value, or remove the key", Accepts),
    ("database = 1.10", "database", "not a string; put it in quotes", Rejects),
    ("database = \"${CLAVIGER_TEST_ABSENT}\"", "database", "CLAVIGER_TEST_ABSENT", Accepts),
    ("database = \"${CLAVIGER_TEST\"", "database", "without `}`; write", Accepts),
    ("database = \"file:/absent/name\"", "database", "/absent/name cannot be read", Accepts),
    ("nodes = [\"a\"]", "nodes", "no effect on a pool of kind `postgres`; remove it", Accepts),
    ("nodes = 1", "nodes", "not a list; give one such as [", Rejects),
    ("provider = \"orders\"", "provider", "not in [providers]; ", Accepts),
    ("region = \"eu-west-1\"", "region", "only for `aws_iam_auth`", Accepts),
    ("host = \"db:5432\"", "host", "has a port; give it by `port`", Accepts),
    ("host = \"postgres://db\"", "host", "is a URL; give it by `url`", Accepts),
    ("host = \"a,b\"", "host", "several hosts; give one", Accepts),
    ("host = \"db internal\"", "host", "not a name or an address; give", Accepts),
    ("ssl_mode = \"prefer\"\nca_file = \"/ca\"", "ca_file", "give `verify-full`", Accepts),
    ("url = \"db.internal/orders\"", "url", "not a URL", Accepts),
    ("url = \"postgres://db?sslmod=s3cret\"", "url", "unknown parameter", Accepts),
    ("url = \"postgres://app:12/s3cret@db/orders\"", "url", "`#` is %23, `/` is %2F", Accepts),
    ("url = \"postgres://db:543a/orders\"", "url", "a number from 1 to 65535; give one", Accepts),
    ("url = \"mysql://db\"\nkind = \"postgres\"", "url", "another kind of pool; change", Accepts),
    ("client_key_file = \"/key\"", "client_certificate_file", "needs its certificate", Accepts),
    ("url = \"postgres:///orders?host=/run/postgresql&sslmode=require\"", "url", "a Unix socket does not have; remove", Accepts),
    ("url = \"postgres://db?statement-cache-capacity=s3cret\"", "url", "invalid value; give one that sqlx", Accepts),
];

/// Whole files, the key of the problem, and a part of the message.
#[rustfmt::skip]
const WHOLE: &[(&str, &str, &str, Schema)] = &[
    ("[pool.orders]\nhost = \"db\"\n", "pool", "did you mean `pools`?", Rejects),
    ("[[pools]]\nname = \"orders\"\n", "pools", "not a table; give keys", Rejects),
    ("pools = \"orders\"\n", "pools", "not a table; give keys", Rejects),
    ("[pools]\nhost = \"db\"\n", "pools.host", "not a table; give keys", Rejects),
    ("[default]\nmax_connections = 3\n", "default", "did you mean `defaults`?", Rejects),
    ("[defaults]\nport = 3\n", "defaults.port", "unknown; give one of", Rejects),
    ("[defaults]\nmax_connections = 0\n", "defaults.max_connections", "at least 1", Accepts),
    ("[aws]\nregion = \"eu_west_1\"\n", "aws.region", "give one such as `eu-west-1`", Accepts),
    ("[aws]\nregion = \"eu-wset-1\"\n", "aws.region", "did you mean `west`?", Accepts),
    ("[supervisor]\nfailfast = true\n", "supervisor.failfast", "`fail_fast`", Rejects),
    ("[supervisor]\nstart_deadline = \"0s\"\n", "supervisor.start_deadline", "from 1ms", Accepts),
    ("[supervisor]\nprevious_lease_kept_for = \"2d\"\n", "supervisor.previous_lease_kept_for", "to 1day", Accepts),
    ("[supervisor]\npoll_interval = \"2d\"\n", "supervisor.poll_interval", "to 1day", Accepts),
    ("[providers.a]\npath = \"/a\"\n", "providers.a", "needs the key `kind`: `file`, ", Rejects),
    ("[providers.a]\nkind = \"vault\"\n", "providers.a.kind", "`vault-", Rejects),
    ("[providers.a]\nkind = \"file\"\nformat = \"json\"\n", "providers.a", "key `path`", Rejects),
    ("[providers.a]\nkind = \"service\"\n", "providers.a.kind", "with_provider", Accepts),
    ("[providers.a]\nkind = \"file\"\nformat = \"password\"\npath = \"/a\"\n", "providers.a.user", "is missing; ", Accepts),
    ("[vaults.a]\naddress = \"vault.internal:8200\"\nauth = { kind = \"kubernetes\", role = \"r\" }\n", "vaults.a.address", "give one such as https://", Accepts),
    ("[vaults.a]\naddress = \"https://vault#s3cret\"\nauth = { kind = \"kubernetes\", role = \"r\" }\n", "vaults.a.address", "has a path; give scheme", Accepts),
    ("[vaults.a]\naddress = \"http://vault\"\nauth = { kind = \"kubernetes\", role = \"r\" }\n", "vaults.a.address", "without TLS; give https://", Accepts),
    ("[vaults.a]\naddress = \"https://vault\"\nauth = { kind = \"k8s\", role = \"r\" }\n", "vaults.a.auth.kind", "unknown; give one of `token`, ", Rejects),
];

/// Files that a start would reject, in the form of `WHOLE`. The first value: whether the feature
/// that they need is enabled.
#[rustfmt::skip]
const REJECTED_BY_START: &[(bool, &str, &str, &str)] = &[
    (true, "[pools.\"\"]\nhost = \"db\"\nuser = \"u\"\npassword = \"file:/a\"\n", "pools.\"\"", "give one such as [pools.orders]"),
    (true, "[pools.a]\nhost = \"db\"\nuser = \"u\"\npassword = \"\"\n", "pools.a.password", "is empty; give ${NAME} or"),
    (true, "[pools.a]\nhost = \"/run\"\nuser = \"u\"\npassword = \"file:/a\"\nssl_mode = \"verify-full\"\n", "pools.a.ssl_mode", "a Unix socket does not have; remove"),
    (true, "[pools.a]\nhost = \"/run\"\nuser = \"u\"\npassword = \"file:/a\"\nca_file = \"/a\"\n", "pools.a.ca_file", "a Unix socket does not have; remove"),
    (cfg!(feature = "file"), "[providers.a]\nkind = \"file\"\nformat = \"json\"\npath = \"/a\"\npoll_interval = \"1ms\"\n", "providers.a.poll_interval", "between 1 s and 1 day"),
    (cfg!(feature = "rds-iam"), "[pools.a]\nhost = \"orders.c1a2b3.eu-west-1.rds.amazonaws.com\"\nuser = \"u\"\naws_iam_auth = true\nregion = \"eu-central-1\"\n", "pools.a.region", "eu-west-1"),
    (cfg!(feature = "rds-iam"), "[pools.a]\nhost = \"orders.global-c1a2b3.global.rds.amazonaws.com\"\nuser = \"u\"\naws_iam_auth = true\n", "pools.a.host", "the current \"region\""),
    (cfg!(feature = "elasticache-iam"), "[providers.a]\nkind = \"elasticache-iam\"\ncache_kind = \"serverless\"\nuser = \"u\"\ncache = \"orders-a1b2c3.serverless.euw1.cache.amazonaws.com\"\n", "providers.a.cache", "endpoint"),
    (cfg!(feature = "secrets-manager"), "[providers.a]\nkind = \"secrets-manager\"\nsecret = \"arn:aws:secretsmanager:eu-west-1:1:oops\"\n", "providers.a.secret", "not a whole ARN; set"),
    (cfg!(feature = "secrets-manager"), "[providers.a]\nkind = \"secrets-manager\"\nsecret = \"orders\"\nuser = \"u\"\nuser_key = \"k\"\n", "providers.a.user_key", "remove it"),
    (cfg!(feature = "vault"), "[providers.a]\nkind = \"vault-kv\"\npath = \"a\"\n[vaults.v]\naddress = \"https://vault\"\ntimeout = \"0s\"\nauth = { kind = \"kubernetes\", role = \"r\" }\n", "vaults.v.timeout", "more than zero"),
    (cfg!(feature = "vault"), "[providers.a]\nkind = \"vault-kv\"\npath = \"/a\"\n[vaults.v]\naddress = \"https://vault\"\nca_file = \"/absent\"\nauth = { kind = \"kubernetes\", role = \"r\" }\n", "providers.a.path", "none at either end"),
    (cfg!(feature = "redis"), "[pools.a]\nkind = \"redis\"\nhost = \"cache\"\npassword = \"file:/a\"\ndatabase = \"s3cret\"\n", "pools.a.database", "not the number of a database; give"),
    (cfg!(feature = "redis"), "[pools.a]\nurl = \"redis://cache/s3cret\"\npassword = \"file:/a\"\n", "pools.a.url", "not the number of a database; give"),
    (cfg!(feature = "redis"), "[pools.a]\nurl = \"redis://cache\"\npassword = \"file:/a\"\nclient_certificate_file = \"/c\"\nclient_key_file = \"/k\"\n", "pools.a.client_certificate_file", "without TLS; give"),
    (cfg!(feature = "deadpool-postgres"), "[pools.a]\nkind = \"deadpool-postgres\"\nurl = \"postgres://u@db?connect_timeout=3s3cret\"\npassword = \"file:/a\"\n", "pools.a.url", "invalid parameter; give"),
    (cfg!(feature = "deadpool-postgres"), "[pools.a]\nkind = \"deadpool-postgres\"\nurl = \"postgres://u@db?sslcert=/s3cret&sslkey=/k\"\npassword = \"file:/a\"\n", "pools.a.url", "no effect on a pool of kind `deadpool-postgres`; remove"),
    (cfg!(feature = "deadpool-postgres"), "[pools.a]\nkind = \"deadpool-postgres\"\nurl = \"postgres://u@db?sslmode=require\"\npassword = \"file:/a\"\n", "pools.a.url", "not supported by this kind; give"),
];

/// Files whose text is no TOML or YAML, with the line, and a part of the message.
#[rustfmt::skip]
const NO_SYNTAX: &[(&str, &str, &str, &str)] = &[
    ("c.toml", "[pools.a]\npassword = s3cret\n", "line 2, column 12", "quoted"),
    ("c.toml", "[pools.a]\npassword = \"s3cret\n", "line 2", "; check quotes"),
    ("c.toml", "[pools.a]\n[pools.b]\n[pools.a]\n", "line 3", "duplicate"),
    ("c.toml", "[pools.a]\nport = 1\nport = 2\n", "line 3", "duplicate key; remove one"),
    ("c.toml", "[pools.a\nport = 1\n", "line 1", ";"),
    ("c.toml", "[pools.a]\nport: 1\n", "line 2", "expected `=`"),
    ("c.toml", "[pools.a]\nport = 010\n", "line 2", "zero"),
    ("c.yaml", "pools:\n\ta:\n\t\tport: 1\n", "line 2", "spaces"),
    ("c.yaml", "pools:\n  a: {}\n  b: {}\n  a: {}\n", "line 4, column 3", "twice; remove one"),
    ("c.yaml", "pools:\n  a:\n    password: \"s3cret\n", "line 3", "; check quotes"),
    ("c.yaml", "pools:\n  a:\n   port: 1\n    host: s3cret\n", "line 4", ";"),
    ("c.yaml", "pools: {a: {port: 1}\n", "line 2", ";"),
    ("c.yaml", "- s3cret\n", "line 1, column 1", "no keys"),
    ("c.json", "{\"password\": \"s3cret\"}", "extension", ".toml, .yaml or .yml"),
];

/// Returns the message of a file, which has one problem.
fn message(name: &str, text: &[u8]) -> String {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    let config = Config::load(&path).and_then(|config| config.check());
    let text = String::from_utf8_lossy(text);
    let error = config.expect_err(&text);
    assert_eq!(error.problems().len(), 1, "{text}\n{error}");
    let shown = error.to_string();
    assert!(!shown.contains(SECRET), "{text}\n{shown}");
    let place = format!("{}: ", path.display());
    let message = shown.strip_prefix(&place).expect("the file is named");
    message.to_owned()
}

#[test]
fn a_typo_in_a_key_or_value_is_named_with_what_to_give() {
    let validator = Validator::new();
    // A line may replace one of these.
    let common = |key: &str| match key {
        "provider" => "host = \"db\"\n",
        "host" | "url" => "user = \"orders\"\npassword = \"file:/etc/orders\"\n",
        _ => "host = \"db\"\nuser = \"orders\"\npassword = \"file:/etc/orders\"\n",
    };
    let of_pools = IN_A_POOL.iter().map(|(lines, key, words, schema)| {
        let text = format!("[pools.orders]\n{}{lines}\n", common(key));
        (text, format!("pools.orders.{key}"), *words, *schema)
    });
    let whole = WHOLE
        .iter()
        .map(|(text, key, words, schema)| ((*text).to_owned(), (*key).to_owned(), *words, *schema));
    for (text, key, words, schema) in of_pools.chain(whole) {
        let shown = message("claviger.toml", text.as_bytes());
        assert!(shown.starts_with(&format!("{key}: ")), "{text}\n{shown}");
        assert!(shown.contains(words), "{text}\n{shown}");
        assert_eq!(
            validator.accepts(&text),
            schema == Accepts,
            "the schema, for\n{text}"
        );
    }
}

#[test]
fn check_finds_settings_that_a_start_rejects() {
    for (_, text, key, words) in REJECTED_BY_START
        .iter()
        .filter(|(is_enabled, ..)| *is_enabled)
    {
        let shown = message("claviger.toml", text.as_bytes());
        assert!(shown.starts_with(&format!("{key}: ")), "{text}\n{shown}");
        assert!(shown.contains(words), "{text}\n{shown}");
        assert!(!shown.contains("in code"), "{text}\n{shown}");
    }
}

#[test]
fn an_error_of_syntax_has_a_line_and_a_reason() {
    for (name, text, place, words) in NO_SYNTAX {
        let shown = message(name, text.as_bytes());
        assert!(shown.contains(place), "{text}\n{shown}");
        assert!(shown.contains(words), "{text}\n{shown}");
    }
    let latin = message("claviger.toml", b"[pools.a]\nuser = \"Ren\xE9\"\n");
    assert!(
        latin.contains("line 2") && latin.contains("UTF-8"),
        "{latin}"
    );
    let utf16 = message("claviger.toml", b"\xFF\xFE[\0a\0]\0");
    assert!(utf16.contains("UTF-16"), "{utf16}");
}

#[test]
fn what_editors_of_other_platforms_write_is_read() {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in [
        (
            "claviger.toml",
            "\u{feff}[pools.orders]\r\nhost = \"db\"\r\nuser = \"u\"\r\npassword = \"file:/a\"\r\n",
        ),
        (
            "claviger.yml",
            "\u{feff}pools:\r\n  orders:\r\n    host: db\r\n    user: u\r\n    password: file:/a\r\n",
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        let config = Config::load(&path).expect(name);
        config.check().expect(name);
    }
}
