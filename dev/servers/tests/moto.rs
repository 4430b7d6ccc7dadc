//! needs: moto
//!
//! A moto server stores secrets, can be stalled and stopped, and leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/http.rs"]
mod http;
#[path = "support/processes.rs"]
mod processes;

use std::io::ErrorKind;
use std::process::Command;
use std::thread;
use std::time::Duration;

use claviger_servers::{InjectedFault, Moto, Programs, Proxy, StartError};
use http::{Client, Response};
use processes::{children_of, is_gone, kill, parent_and_state};

fn secrets_manager(aws: &Moto, operation: &str, body: &str) -> std::io::Result<Response> {
    Client::connect(&aws.endpoint())?.call(operation, body)
}

#[test]
fn a_secret_is_created_and_read_by_its_stage() {
    let aws = Moto::start().unwrap();
    let created = secrets_manager(
        &aws,
        "CreateSecret",
        r#"{"Name": "db", "SecretString": "first"}"#,
    )
    .unwrap();
    assert_eq!(created.status, 200, "{created:?}");
    let put = r#"{"SecretId": "db", "SecretString": "second", "VersionStages": ["AWSPENDING"]}"#;
    assert_eq!(
        secrets_manager(&aws, "PutSecretValue", put).unwrap().status,
        200
    );
    for (stage, value) in [("AWSCURRENT", "first"), ("AWSPENDING", "second")] {
        let read = format!(r#"{{"SecretId": "db", "VersionStage": "{stage}"}}"#);
        let response = secrets_manager(&aws, "GetSecretValue", &read).unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body.contains(value), "{response:?}");
    }
    let absent = secrets_manager(
        &aws,
        "GetSecretValue",
        r#"{"SecretId": "other", "VersionStage": "AWSCURRENT"}"#,
    )
    .unwrap();
    // AWS itself returns 400.
    assert_eq!(absent.status, 404);
    assert!(
        absent.body.contains("ResourceNotFoundException"),
        "{absent:?}"
    );
}

/// Runs a Python script with a boto3 `client` of Secrets Manager, and returns its output.
fn boto3(aws: &Moto, endpoint: &str, script: &str) -> String {
    let setup = "
import boto3, botocore, sys
client = boto3.client('secretsmanager', endpoint_url=sys.argv[1], region_name='eu-central-1',
                      aws_access_key_id='any', aws_secret_access_key='any',
                      config=botocore.config.Config(retries={'total_max_attempts': 2}))";
    let output = Command::new(aws.python())
        .args(["-c", &format!("{setup}\n{script}"), endpoint])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_python_that_runs_it_has_boto3() {
    let aws = Moto::start().unwrap();
    let script = "
client.create_secret(Name='db', SecretString='by boto3')
print(client.get_secret_value(SecretId='db', VersionStage='AWSCURRENT')['SecretString'])";
    assert_eq!(boto3(&aws, &aws.endpoint(), script), "by boto3\n");
}

#[test]
fn clients_use_the_proxy_as_aws() {
    let aws = Moto::start().unwrap();
    let proxy = Proxy::start(&aws.endpoint()).unwrap();
    proxy.fault_on(
        "GetSecretValue",
        InjectedFault::reply(
            400,
            r#"{"__type": "ThrottlingException", "message": "Rate exceeded"}"#,
        ),
    );
    let script = "
client.create_secret(Name='db', SecretString='by boto3')
print(client.describe_secret(SecretId='db')['Name'])
try:
    client.get_secret_value(SecretId='db', VersionStage='AWSCURRENT')
except botocore.exceptions.ClientError as error:
    print(error.response['Error']['Code'])";
    assert_eq!(
        boto3(&aws, &proxy.endpoint(), script),
        "db\nThrottlingException\n"
    );
    // boto3 retried once and used one connection.
    assert_eq!(
        (proxy.requests("GetSecretValue"), proxy.connections()),
        (2, 1)
    );
    assert!(
        proxy
            .log()
            .iter()
            .filter(|request| request.operation == "GetSecretValue")
            .all(|request| request.body.contains("VersionStage"))
    );
}

#[test]
fn a_stopped_moto_refuses_connections_and_restarts_empty_on_its_port() {
    let aws = Moto::start().unwrap();
    let endpoint = aws.endpoint();
    let list = || secrets_manager(&aws, "ListSecrets", "{}").unwrap().body;
    secrets_manager(
        &aws,
        "CreateSecret",
        r#"{"Name": "db", "SecretString": "lost"}"#,
    )
    .unwrap();
    assert!(list().contains("db"));

    aws.stop().unwrap();
    let error = secrets_manager(&aws, "ListSecrets", "{}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    aws.stop().unwrap();
    aws.stall().unwrap_err();

    aws.start_again().unwrap();
    assert_eq!(aws.endpoint(), endpoint);
    assert!(!list().contains("db"));
    // Starting a running server restarts it.
    aws.start_again().unwrap();
    assert!(!list().contains("db"));
}

#[test]
fn a_stalled_moto_accepts_connections_and_responds_after_resuming() {
    let aws = Moto::start().unwrap();
    secrets_manager(
        &aws,
        "CreateSecret",
        r#"{"Name": "db", "SecretString": "kept"}"#,
    )
    .unwrap();
    aws.stall().unwrap();
    let mut client = Client::connect(&aws.endpoint()).unwrap();
    client.send("ListSecrets", "{}").unwrap();
    assert!(client.is_silent_for(Duration::from_millis(300)).unwrap());
    aws.resume().unwrap();
    assert!(client.receive().unwrap().body.contains("db"));
}

#[test]
fn two_servers_are_independent() {
    let (one, two) = thread::scope(|scope| {
        let other = scope.spawn(Moto::start);
        (Moto::start().unwrap(), other.join().unwrap().unwrap())
    });
    assert_ne!(one.endpoint(), two.endpoint());
    secrets_manager(
        &one,
        "CreateSecret",
        r#"{"Name": "db", "SecretString": "here"}"#,
    )
    .unwrap();
    assert!(
        !secrets_manager(&two, "ListSecrets", "{}")
            .unwrap()
            .body
            .contains("db")
    );
}

#[test]
fn nothing_is_left_behind_in_any_state() {
    type EnterState = fn(&Moto);
    let states: [(&str, EnterState); 4] = [
        ("running", |_| {}),
        ("stalled", |aws| aws.stall().unwrap()),
        ("stopped", |aws| aws.stop().unwrap()),
        ("crashed", |aws| kill(aws.pid().unwrap())),
    ];
    for (name, enter_state) in states {
        let aws = Moto::start().unwrap();
        let (endpoint, server) = (aws.endpoint(), aws.pid().unwrap());
        let (guardian, _) = parent_and_state(server).unwrap();
        assert!(children_of(guardian).contains(&server));
        enter_state(&aws);
        drop(aws);
        assert!(is_gone(server) && is_gone(guardian), "{name}");
        assert_eq!(
            Client::connect(&endpoint).unwrap_err().kind(),
            ErrorKind::ConnectionRefused,
            "{name}"
        );
    }
}

#[test]
fn a_missing_moto_is_an_error_with_the_command_that_installs_it() {
    let error = Moto::start_from(&Programs::nowhere()).unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)), "{error:?}");
    assert!(
        error.to_string().contains("cargo xtask install moto"),
        "{error:?}"
    );
}
