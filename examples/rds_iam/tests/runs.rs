//! needs: postgresql, pam
//!
//! The example with a PostgreSQL that verifies tokens as RDS does.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use claviger_servers::Postgres;

/// The program, killed at the end of the test.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn example(server: &Postgres, region: Option<&str>) -> Example {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rds_iam"));
    let authority = server.ca_file().expect("it speaks TLS");
    command
        .args([
            server.host(),
            &server.port().to_string(),
            "first.last+x@corp",
            "postgres",
        ])
        .arg(authority);
    // The example uses no profile of the user and no metadata service.
    command
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/EXAMPLEKEY");
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    if let Some(region) = region {
        command.env("AWS_REGION", region);
    }
    Example(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts"),
    )
}

#[test]
fn the_service_logs_in_with_a_token_and_shuts_down() {
    let server = Postgres::builder()
        .tokens()
        .start()
        .expect("a server starts");
    server
        .create_token_role("first.last+x@corp")
        .expect("a role is made");
    let mut example = example(&server, Some("eu-west-1"));
    let mut lines = BufReader::new(example.0.stdout.take().expect("it is piped"))
        .lines()
        .map_while(Result::ok);
    assert_eq!(
        lines.next().as_deref(),
        Some("generation 1: logged in as first.last+x@corp")
    );
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
    let checks = server
        .token_checks()
        .entries()
        .expect("the checks can be read");
    assert!(
        !checks.is_empty()
            && checks
                .iter()
                .all(|check| check.accepted && check.access_key == "AKIAEXAMPLE"),
        "{checks:?}"
    );
}

#[test]
fn a_missing_region_is_an_error_that_names_it() {
    let server = Postgres::builder()
        .tokens()
        .start()
        .expect("a server starts");
    let mut example = example(&server, None);
    let mut output = String::new();
    example
        .0
        .stderr
        .take()
        .expect("it is piped")
        .read_to_string(&mut output)
        .expect("it is text");
    assert!(!example.0.wait().expect("it ends").success());
    assert!(output.contains("\"region\" is missing"), "{output}");
}
