//! Pools whose credentials are tokens, and secrets that are empty.

use std::time::Duration;

use claviger_config::TlsMode;

use super::{File, assert_problem};

const MINUTE: Duration = Duration::from_secs(60);

/// Lines under `[pools.orders]`, and providers, that make the credentials tokens.
fn tokens() -> Vec<(&'static str, &'static str)> {
    let mut tokens = vec![(
        "provider = \"tokens\"\n",
        "[providers.tokens]\nkind = \"file\"\nformat = \"password\"\nuser = \"app\"\n\
         token = true\npath = \"/run/token\"\n",
    )];
    if cfg!(feature = "rds-iam") {
        tokens.push(("user = \"app\"\naws_iam_auth = true\n", ""));
        tokens.push((
            "provider = \"tokens\"\n",
            "[providers.tokens]\nkind = \"rds-iam\"\nhost = \"db\"\nport = 5432\nuser = \"app\"\n\
             region = \"eu-west-1\"\n",
        ));
    }
    tokens
}

fn text((pool, provider): (&str, &str), more: &str) -> String {
    format!("[pools.orders]\nhost = \"db\"\n{pool}{more}\n{provider}")
}

#[tokio::test]
async fn pools_with_tokens_of_any_provider_have_their_defaults() {
    for tokens in tokens() {
        let file = File::toml(&text(tokens, ""));
        let config = file.load().expect("it is valid").for_tools();
        config.check().expect("it is valid");
        let connections = config.connections().await.expect("it is valid");
        assert_eq!(connections[0].tls_mode(), TlsMode::VerifyFull, "{tokens:?}");
        assert_eq!(connections[0].max_lifetime(), Some(14 * MINUTE));
    }
    let password = "user = \"app\"\npassword = \"file:/etc/orders\"\n";
    let file = File::toml(&text((password, ""), ""));
    let config = file.load().expect("it is valid").for_tools();
    let connections = config.connections().await.expect("it is valid");
    assert_eq!(connections[0].tls_mode(), TlsMode::Prefer);
    assert_eq!(connections[0].max_lifetime(), Some(30 * MINUTE));
}

#[tokio::test]
async fn tokens_without_verified_tls_are_an_error() {
    for tokens in tokens() {
        for mode in ["disable", "prefer", "require", "verify-ca"] {
            let text = text(tokens, &format!("ssl_mode = \"{mode}\""));
            assert_problem(&text, "pools.orders.ssl_mode", "give `verify-full`");
            // An examination shows it with its step, but for a mode that the login accepts.
            let config = claviger_config::Config::load(&File::toml(&text).path);
            let config = config.expect("it is valid").for_tools();
            let is_examined = config.connections().await.is_ok();
            assert_eq!(is_examined, mode != "verify-ca", "{mode}");
        }
        let by_url = text(tokens, "url = \"postgres://db/orders?sslmode=require\"");
        assert_problem(&by_url, "pools.orders.url", "give `verify-full`");
    }
}

#[test]
fn connections_that_outlast_their_token_are_reported_to_people() {
    for tokens in tokens() {
        for (more, providers) in [
            ("connection_max_lifetime = \"2h\"", ""),
            ("", "[defaults]\nconnection_max_lifetime = \"2h\"\n"),
        ] {
            let text = text(tokens, more) + providers;
            let config = File::toml(&text).load().expect("a service may start");
            let checked = config.for_tools().check();
            if tokens.1.contains("token = true") {
                // The tokens of a file may be valid for longer.
                assert!(checked.is_ok());
                continue;
            }
            let error = checked.expect_err("2h is longer");
            let [problem] = error.problems() else {
                assert_eq!(error.problems().len(), 1, "{error}");
                return;
            };
            assert_eq!(problem.key, "pools.orders.connection_max_lifetime");
            assert!(problem.message.contains("is 2h, and"), "{error}");
        }
    }
}

/// The region of the file is not that of either.
#[tokio::test]
async fn providers_of_one_file_may_be_in_several_regions() {
    let mut text = "[aws]\nregion = \"us-east-2\"\n".to_owned();
    if cfg!(feature = "secrets-manager") {
        for region in ["eu-west-1", "us-east-1"] {
            text += &format!(
                "[providers.{region}]\nkind = \"secrets-manager\"\n\
                 secret = \"arn:aws:secretsmanager:{region}:123456789012:secret:orders\"\n\
                 [pools.{region}]\nhost = \"db\"\nprovider = \"{region}\"\n"
            );
        }
    }
    if cfg!(feature = "rds-iam") {
        text += "[pools.global]\nhost = \"orders.global-c1a2b3.global.rds.amazonaws.com\"\n\
                 user = \"app\"\naws_iam_auth = true\nregion = \"eu-west-1\"\n";
    }
    let config = File::toml(&text).load().expect("it is valid");
    for connection in config.connections().await.expect("it is valid") {
        let error = connection.provider().err().map(ToString::to_string);
        assert_eq!(error, None);
    }
}

#[tokio::test]
async fn an_empty_secret_is_named() {
    let empty = File::named("empty", "\n");
    let reference = format!("file:{}", empty.path.display());
    let is_empty = format!("{} is empty", empty.path.display());
    let provider = format!(
        "[pools.orders]\nhost = \"db\"\nprovider = \"a\"\n[providers.a]\nkind = \"static\"\n\
         user = \"app\"\npassword = \"{reference}\"\n"
    );
    let file = File::toml(&provider);
    let config = file.load().expect("it may be written before the start");
    let error = config.check_files().expect_err("it is empty").to_string();
    let problem = format!("providers.a.password: {is_empty}");
    assert!(error.contains(&problem), "{error}");
    let connections = config.for_tools().connections().await.expect("it is valid");
    let error = connections[0].provider().expect_err("it is empty");
    assert!(error.to_string().contains(&problem), "{error}");

    let password =
        format!("[pools.orders]\nhost = \"db\"\nuser = \"app\"\npassword = \"{reference}\"\n");
    let config = File::toml(&password).load().expect("it is watched");
    let error = config.check_files().expect_err("it is empty").to_string();
    assert!(
        error.contains(&format!("pools.orders.password: {is_empty}")),
        "{error}"
    );

    for (key, more) in [
        ("host", ""),
        ("url", "host = \"db\"\n"),
        ("port", "host = \"db\"\n"),
    ] {
        let text = format!("[pools.orders]\n{more}provider = \"a\"\n{key} = \"{reference}\"\n");
        assert_problem(&text, &format!("pools.orders.{key}"), &is_empty);
    }
}

#[test]
fn regions_and_ports_of_providers_are_checked() {
    let provider = |lines: &str| format!("[providers.a]\n{lines}\n");
    if cfg!(feature = "rds-iam") {
        let rds = "kind = \"rds-iam\"\nhost = \"db\"\nuser = \"app\"\n";
        for (more, key, word) in [
            (
                "port = 5432\nregion = \"eu-wset-1\"",
                "region",
                "did you mean `west`?",
            ),
            ("port = 0", "port", "from 1 to 65535"),
        ] {
            let key = format!("providers.a.{key}");
            assert_problem(&provider(&format!("{rds}{more}")), &key, word);
        }
        let host = rds.replace("\"db\"", "\"db:5432\"");
        let text = provider(&format!("{host}port = 5432"));
        assert_problem(&text, "providers.a.host", "has a port; give it by `port`");
    }
    if cfg!(feature = "secrets-manager") {
        let secret = "kind = \"secrets-manager\"\n\
                      secret = \"arn:aws:secretsmanager:eu-wset-1:123456789012:secret:orders\"";
        assert_problem(
            &provider(secret),
            "providers.a.secret",
            "did you mean `west`?",
        );
    }
}
