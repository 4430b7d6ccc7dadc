//! A service that logs through the `log` crate, without a tracing subscriber. Signing a token
//! leaves its logger as it was, and logs no secret at any level.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use claviger::{FetchRequest, Provider};
use claviger_rds_iam::RdsIam;

static LINES: Mutex<String> = Mutex::new(String::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().expect("nobody panics").push_str(&format!("{} {} {}\n", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_neither_silences_the_process_nor_logs_a_secret() {
    log::set_logger(&Lines).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "CANARY-secret-key", Some("CANARY-session-token".to_owned()), None, "test");
    let config =
        SdkConfig::builder().credentials_provider(SharedCredentialsProvider::new(credentials)).region(Region::new("eu-west-1")).build();
    let provider = RdsIam::new(&config, "db.example.eu-west-1.rds.amazonaws.com", 5432, "orders_app").expect("it can be right");
    let lease = provider.fetch(FetchRequest::first()).await.expect("a token");
    let token = lease.secret().expose_password();
    assert!(token.contains("CANARY-session-token"), "the hazard: the session token went through");
    let signature = token.rsplit('=').next().expect("a signature");

    log::info!("the service's own line");
    tracing::info!("a line of the library's");
    let lines = LINES.lock().expect("nobody panics").clone();
    assert!(lines.contains("the service's own line"), "the logger receives what is logged");
    assert!(lines.contains("a line of the library's"), "tracing still writes to it");
    let shown: Vec<_> = lines.lines().filter(|line| line.contains("CANARY") || line.contains(signature)).collect();
    assert!(shown.is_empty(), "{shown:?}");
}
