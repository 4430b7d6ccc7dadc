//! Invalid settings are errors before any request. No server is needed.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger_vault::{
    Auth, SecretId, VaultDynamic, VaultKv, VaultSession, VaultSessionBuilder, VaultStatic,
};

#[test]
fn the_debug_form_of_a_builder_shows_no_password_of_an_address() {
    for address in [
        "https://user:CANARY@vault",
        "https://CANARY@vault",
        "https://vault?token=CANARY",
        "https://vault/v1#CANARY",
        "CANARY",
    ] {
        let shown = format!(
            "{:?}",
            VaultSession::builder(address, Auth::token("CANARY"))
        );
        assert!(
            !shown.contains("CANARY") && shown.contains("[not a valid address]"),
            "{shown}"
        );
    }
    let shown = format!(
        "{:?}",
        VaultSession::builder("https://vault.internal:8200/", Auth::token("CANARY"))
            .with_namespace("team")
    );
    assert!(
        shown.contains("https://vault.internal:8200\"")
            && shown.contains("team")
            && !shown.contains("CANARY"),
        "{shown}"
    );
}

#[test]
fn an_invalid_setting_is_an_error_at_construction_that_names_it() {
    let good = || VaultSession::builder("https://vault.internal:8200", Auth::token("token"));
    let at = |address: &str| VaultSession::builder(address, Auth::token("token"));
    let with = |auth: Auth| VaultSession::builder("https://vault.internal:8200", auth);
    let (nothing, no_pem) = (
        tempfile::NamedTempFile::new().expect("a file"),
        tempfile::NamedTempFile::new().expect("a file"),
    );
    fs::write(&no_pem, "CANARY").expect("it is written");
    let half = tempfile::NamedTempFile::new().expect("a file");
    fs::write(
        &half,
        "-----BEGIN CERTIFICATE-----\nCANARY\n-----END CERTIFICATE-----\n",
    )
    .expect("it is written");
    let cases: Vec<(VaultSessionBuilder, &str)> = vec![
        (at(""), "\"address\""),
        (at("vault:8200"), "\"address\""),
        (at("https://"), "\"address\""),
        (at("http://[::1"), "\"address\""),
        (at("https://vault:port"), "\"address\""),
        (at("https://user:CANARY@vault"), "\"address\""),
        (at("https://vault/v1"), "\"address\""),
        (with(Auth::token("CANARY\n")), "\"token\""),
        (with(Auth::token(" CANARY")), "\"token\""),
        (with(Auth::token("")), "\"token\""),
        (with(Auth::token_file("")), "\"token\""),
        (
            with(Auth::app_role("", SecretId::given("CANARY"))),
            "\"role_id\"",
        ),
        (
            with(Auth::app_role("role", SecretId::given("CANARY\r\n"))),
            "\"secret_id\"",
        ),
        (
            with(Auth::app_role("role", SecretId::wrapped("CANARY\0"))),
            "\"secret_id\"",
        ),
        (with(Auth::kubernetes("").with_mount("k8s")), "\"role\""),
        (
            with(Auth::kubernetes("role").with_mount("/k8s")),
            "\"mount\"",
        ),
        (with(Auth::jwt("role", "CANARY CANARY")), "\"jwt\""),
        (good().with_namespace(""), "\"namespace\""),
        (good().with_namespace("team\nCANARY"), "\"namespace\""),
        (good().with_timeout(Duration::ZERO), "\"timeout\""),
        (good().with_ca_file("/no/such/file.pem"), "\"ca_file\""),
        (good().with_ca_file(nothing.path()), "\"ca_file\""),
        (good().with_ca_file(no_pem.path()), "\"ca_file\""),
        (good().with_ca_file(half.path()), "\"ca_file\""),
        (at("http://vault:8200"), "\"address\""),
        (
            at("http://127.0.0.1:8200").with_ca_file(no_pem.path()),
            "\"ca_file\"",
        ),
    ];
    for (builder, name) in cases {
        let shown = format!("{builder:?}");
        let error = builder.build().expect_err(&shown);
        assert_eq!(
            error.kind(),
            ProviderErrorKind::Misconfigured,
            "{shown}: {error}"
        );
        assert!(error.to_string().starts_with(name), "{shown}: {error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
    let session = good().build().expect("the settings are valid");
    for bad in ["", "/", "a//b", "../sys", "a\nb", "a?b"] {
        let results = [
            VaultDynamic::new(&session, bad, "orders").map(drop),
            VaultStatic::new(&session, bad, "orders").map(drop),
            VaultKv::new(&session, bad, "orders").map(drop),
        ];
        assert!(
            results.iter().all(|result| result
                .as_ref()
                .is_err_and(|error| error.to_string().starts_with("\"mount\""))),
            "{bad:?}"
        );
        assert!(
            VaultDynamic::new(&session, "database", bad)
                .is_err_and(|error| error.to_string().starts_with("\"role\"")),
            "{bad:?}"
        );
        assert!(
            VaultKv::new(&session, "kv", bad)
                .is_err_and(|error| error.to_string().starts_with("\"path\"")),
            "{bad:?}"
        );
    }
}
