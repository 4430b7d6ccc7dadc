//! needs: postgresql, moto
//!
//! The example during a rotation, with moto in place of AWS.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::Client;
use claviger_rotator::{Rotator, Users};
use claviger_servers::{Moto, Postgres};
use serde_json::json;

const KEY: &str = "AKIAEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/EXAMPLEKEY";

/// The program, killed at the end of the test.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn aws(moto: &Moto) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .endpoint_url(moto.endpoint())
        .credentials_provider(SharedCredentialsProvider::new(AwsCredentials::new(
            KEY, SECRET_KEY, None, None, "test",
        )))
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_continues_through_a_rotation_and_shuts_down() {
    let server = Arc::new(Postgres::builder().tls().start().expect("a server starts"));
    let moto = Moto::start().expect("moto starts");
    server
        .create_role("orders", "password-1")
        .expect("a role is made");
    let first = json!({
        "engine": "postgres", "host": server.host(), "port": server.port(),
        "username": "orders", "password": "password-1", "dbname": "postgres",
    });
    let set_password = {
        let server = Arc::clone(&server);
        move |user: &str, password: &str| Ok(server.set_password(user, password)?)
    };
    let rotator = Rotator::create(
        Client::new(&aws(&moto)),
        "orders-db",
        Users::Single,
        &first,
        set_password,
    )
    .await
    .expect("a secret");

    let mut command = Command::new(env!("CARGO_BIN_EXE_secrets_manager"));
    command
        .arg("orders-db")
        .arg(server.ca_file().expect("it speaks TLS"));
    // The example uses no profile of the user and no metadata service.
    command
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_REGION", "eu-west-1");
    command
        .env("AWS_ENDPOINT_URL", moto.endpoint())
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    let mut example = Example(command.stdout(Stdio::piped()).spawn().expect("it starts"));
    let mut lines = BufReader::new(example.0.stdout.take().expect("it is piped"))
        .lines()
        .map_while(Result::ok);
    assert_eq!(
        lines.next().as_deref(),
        Some("generation 1: logged in as orders")
    );

    // The connection continues after the rotation. A new connection needs the new password.
    let pending = rotator.create_secret("password-2").await.expect("step 1");
    rotator.set_secret(&pending).await.expect("step 2");
    server
        .terminate_connections("orders")
        .expect("its connection is terminated");
    assert!(
        lines.any(|line| line == "generation 2: logged in as orders"),
        "it continues"
    );
    rotator.finish_secret(&pending).await.expect("step 4");

    let interrupted = Command::new("kill")
        .args(["-INT", &example.0.id().to_string()])
        .status()
        .expect("there is a kill");
    assert!(interrupted.success());
    assert_eq!(
        lines.last().as_deref(),
        Some("shut down, nothing remains: true")
    );
    assert!(example.0.wait().expect("it ends").success());
}
