//! The error of each failure of the backend, as it is sent over the wire. The proxy responds in
//! place of the backend: no server is needed.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::error::Error;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_types::date_time::{DateTime, Format};
use aws_types::SdkConfig;
use claviger::error::{ProviderError, ProviderErrorKind as Kind};
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease};
use claviger_secrets_fixtures::aws;
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{InjectedFault, Proxy};
use claviger_testkit::FetchLease;

const CANARY: &str = "CANARY";

/// Starts a proxy without a server behind it.
fn proxy() -> Proxy {
    Proxy::start("http://127.0.0.1:1").expect("a proxy starts")
}

/// Returns a configuration with this number of the SDK's attempts.
fn config(proxy: &Proxy, attempts: u32) -> SdkConfig {
    let retries = RetryConfig::standard()
        .with_max_attempts(attempts)
        .with_initial_backoff(Duration::from_millis(10));
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_millis(400))
        .build();
    aws(&proxy.endpoint())
        .into_builder()
        .retry_config(retries)
        .timeout_config(timeouts)
        .build()
}

/// Returns a provider with this number of the SDK's attempts, and its proxy.
fn provider(attempts: u32) -> (Proxy, SecretsManager) {
    let proxy = proxy();
    let provider = new_provider(&config(&proxy, attempts));
    (proxy, provider)
}

fn new_provider(config: &SdkConfig) -> SecretsManager {
    SecretsManager::new(config, "orders").expect("the settings are valid")
}

async fn first_lease(provider: &SecretsManager) -> Lease<Credentials> {
    provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a lease")
}

/// Fails a first fetch and returns its error, which contains no text of the response.
async fn failure(provider: &SecretsManager) -> ProviderError {
    let error = provider
        .fetch_lease(FetchRequest::first())
        .await
        .map(drop)
        .expect_err("it fails");
    let text = format!("{error} {error:?} {error:#?}");
    assert!(!text.contains(CANARY), "{text}");
    assert!(
        error.source().is_none(),
        "the SDK's error contains the whole response"
    );
    error
}

/// Returns a response with the value of a version.
fn value(version: &str, text: &str) -> InjectedFault {
    let body = serde_json::json!({
        "ARN": "arn",
        "Name": "orders",
        "VersionId": version,
        "SecretString": text,
        "VersionStages": ["AWSCURRENT"],
    });
    InjectedFault::reply(200, body.to_string())
}

/// Returns a response with credentials.
fn credentials() -> InjectedFault {
    value("1", r#"{"username":"app","password":"p"}"#)
}

/// Returns how many descriptions and how many values were requested.
fn requests(proxy: &Proxy) -> (usize, usize) {
    (
        proxy.requests("DescribeSecret"),
        proxy.requests("GetSecretValue"),
    )
}

#[tokio::test]
async fn every_error_names_the_remedy_and_no_response_text() {
    let (proxy, provider) = provider(1);
    for (status, code, message, kind, expected) in [
        (
            400,
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret.",
            Kind::NotFound,
            "no such secret",
        ),
        (
            400,
            "AccessDeniedException",
            "User: CANARY is not authorized to perform: secretsmanager:GetSecretValue",
            Kind::Denied,
            "grant secretsmanager:GetSecretValue on the secret",
        ),
        (
            400,
            "AccessDeniedException",
            "Access to KMS is not allowed",
            Kind::Denied,
            "grant kms:Decrypt",
        ),
        (
            400,
            "DecryptionFailure",
            CANARY,
            Kind::Denied,
            "grant kms:Decrypt",
        ),
        (
            400,
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
            Kind::NotFound,
            "aws secretsmanager restore-secret --secret-id orders",
        ),
        (
            400,
            "InvalidParameterException",
            CANARY,
            Kind::Misconfigured,
            "\"secret_id\"",
        ),
        (
            400,
            "ThrottlingException",
            CANARY,
            Kind::Throttled,
            "throttles requests",
        ),
        (429, "", CANARY, Kind::Throttled, "throttles requests"),
        (
            500,
            "InternalServiceError",
            CANARY,
            Kind::Unavailable,
            "status 500",
        ),
        (503, "", CANARY, Kind::Unavailable, "status 503"),
        (
            400,
            "ExpiredTokenException",
            "CANARY",
            Kind::Unavailable,
            "session has expired",
        ),
        (
            400,
            "UnrecognizedClientException",
            CANARY,
            Kind::Denied,
            "rejects this process's AWS credentials",
        ),
        (
            400,
            "InvalidSignatureException",
            "x-amz-security-token:CANARY",
            Kind::Denied,
            "clock",
        ),
        (
            418,
            "CANARY of another kind",
            CANARY,
            Kind::Other,
            "status 418",
        ),
    ] {
        proxy.fault(InjectedFault::reply(
            status,
            serde_json::json!({ "__type": code, "Message": message }).to_string(),
        ));
        let error = failure(&provider).await;
        assert_eq!(error.kind(), kind, "{code}: {error}");
        let text = error.to_string();
        assert!(
            text.starts_with("secret orders in eu-west-1, AWSCURRENT: ") && text.contains(expected),
            "{code}: {text}"
        );
    }
}

/// Starts a server that responds to each request with this error, dated `ahead` of now. Returns the
/// endpoint.
async fn start_dated_server(code: &'static str, ahead: Duration) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let date = DateTime::from(claviger::lease::Timestamp::now().wall() + ahead)
        .fmt(Format::HttpDate)
        .expect("a date");
    let body = format!(r#"{{"__type":"{code}","message":"Signature expired: CANARY"}}"#);
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\nDate: {date}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 65_536];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await;
            read.expect("a request is received");
            tokio::io::AsyncWriteExt::write_all(&mut stream, response.as_bytes())
                .await
                .expect("it is sent");
        }
    });
    endpoint
}

#[tokio::test]
async fn a_rejected_signature_names_how_far_the_clock_is_off() {
    for code in ["InvalidSignatureException", "RequestExpired"] {
        let endpoint = start_dated_server(code, Duration::from_secs(12 * 60 + 30)).await;
        let aws = config(&proxy(), 1)
            .into_builder()
            .endpoint_url(endpoint)
            .build();
        let error = failure(&new_provider(&aws)).await;
        assert!(
            error
                .to_string()
                .contains("this machine's clock is 12 min "),
            "{error}"
        );
        assert_eq!(error.kind(), Kind::Unavailable, "a clock can be corrected");
    }
    let aws = config(&proxy(), 1)
        .into_builder()
        .endpoint_url(start_dated_server("InvalidSignatureException", Duration::ZERO).await)
        .build();
    let error = failure(&new_provider(&aws)).await;
    assert!(
        error.kind() == Kind::Denied && !error.to_string().contains(" min "),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_or_broken_response_is_a_transient_error() {
    let (proxy, provider) = provider(1);
    for fault in [
        InjectedFault::reply(200, "<html>CANARY</html>"),
        InjectedFault::reply(200, r#"{"SecretString":"CANARY""#),
        InjectedFault::reply(200, r#"{"SecretString":"CANARY"}"#),
        InjectedFault::reply(502, "<html>CANARY</html>"),
        InjectedFault::Refuse,
    ] {
        proxy.fault(fault.clone());
        let error = failure(&provider).await;
        assert_eq!(error.kind(), Kind::Unavailable, "{fault:?}: {error}");
    }
    proxy.fault(InjectedFault::Stall);
    assert_eq!(failure(&provider).await.kind(), Kind::TimedOut);
    proxy.heal();
    // No server is behind the proxy.
    assert_eq!(failure(&provider).await.kind(), Kind::Unavailable);
}

#[tokio::test]
async fn the_content_of_the_secret_is_never_in_an_error() {
    let proxy = proxy();
    let json = SecretsManager::builder(&config(&proxy, 1), "orders")
        .with_endpoint_from_secret()
        .build()
        .expect("the settings are valid");
    for (fault, expected) in [
        (value("1", "CANARY"), "is not JSON, at line 1, column 1"),
        (
            value("1", r#"{"username":"CANARY","password":["CANARY"]}"#),
            "the key \"password\" must be a string",
        ),
        (
            value(
                "1",
                r#"{"username":"u","password":"CANARY","host":"CANARY","port":"CANARY"}"#,
            ),
            "the key \"port\" must be a number",
        ),
        (
            value(
                "1",
                r#"{"username":"u","password":"CANARY","host":"h","port":1,"dbname":""}"#,
            ),
            "the key \"dbname\" is empty",
        ),
        (
            value(
                "1",
                r#"{"username":"u","password":"CANARY","host":"CANARY:1","port":1}"#,
            ),
            "the key \"host\" has a port",
        ),
        (
            InjectedFault::reply(200, r#"{"VersionId":"1","SecretBinary":"Q0FOQVJZ"}"#),
            "is binary",
        ),
        (
            InjectedFault::reply(200, r#"{"VersionId":"1"}"#),
            "has no value",
        ),
    ] {
        proxy.fault(fault);
        let error = failure(&json).await;
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(
            error
                .to_string()
                .starts_with("secret orders in eu-west-1, AWSCURRENT: ")
                && error.to_string().contains(expected),
            "{error}"
        );
    }
}

#[tokio::test]
async fn only_the_sdk_retries() {
    let (proxy, provider) = provider(3);
    for (fault, attempts) in [
        (
            InjectedFault::reply(400, r#"{"__type":"ThrottlingException"}"#),
            3,
        ),
        (
            InjectedFault::reply(500, r#"{"__type":"InternalServiceError"}"#),
            3,
        ),
        (
            InjectedFault::reply(400, r#"{"__type":"AccessDeniedException"}"#),
            1,
        ),
        (
            InjectedFault::reply(400, r#"{"__type":"ResourceNotFoundException"}"#),
            1,
        ),
        (value("1", "half a secr"), 1),
    ] {
        let before = proxy.requests("GetSecretValue");
        proxy.fault(fault.clone());
        failure(&provider).await;
        assert_eq!(
            proxy.requests("GetSecretValue") - before,
            attempts,
            "{fault:?}"
        );
    }
}

/// Advances the clock at once. It is not paused while a response is awaited.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_description_that_is_not_granted_is_requested_once_an_hour() {
    let (proxy, provider) = provider(1);
    proxy.fault_on("GetSecretValue", credentials());
    proxy.fault_on(
        "DescribeSecret",
        InjectedFault::reply(
            400,
            r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#,
        ),
    );
    let current = first_lease(&provider).await;
    let poll = async || {
        let lease = provider
            .fetch_lease(FetchRequest::new(RotationTrigger::Schedule).with_current(current.clone()))
            .await
            .expect("a lease");
        assert_eq!(lease.revision(), current.revision());
        requests(&proxy)
    };
    for polls in 1..=3 {
        assert_eq!(poll().await, (1, 1 + polls));
    }
    advance(Duration::from_secs(3_600)).await;
    assert_eq!(poll().await, (2, 5), "still denied");
    assert_eq!(poll().await, (2, 6));
    // The permission was granted meanwhile: the value is no longer requested.
    proxy.fault_on(
        "DescribeSecret",
        InjectedFault::reply(200, r#"{"VersionIdsToStages":{"1":["AWSCURRENT"]}}"#),
    );
    advance(Duration::from_secs(3_600)).await;
    assert_eq!(poll().await, (3, 6));
    assert_eq!(poll().await, (4, 6));
}

#[tokio::test]
async fn a_failing_description_does_not_fail_the_first_fetch_but_fails_a_poll() {
    let (proxy, provider) = provider(1);
    proxy.fault_on("GetSecretValue", credentials());
    proxy.fault_on("DescribeSecret", InjectedFault::reply(500, "{}"));
    let current = first_lease(&provider).await;
    let poll = FetchRequest::new(RotationTrigger::Schedule).with_current(current);
    let error = provider
        .fetch_lease(poll.clone())
        .await
        .map(drop)
        .expect_err("the backend fails");
    assert!(
        error.is_transient() && !error.to_string().contains("AWSCURRENT"),
        "{error}"
    );
    // It is not taken for a missing permission: the description is requested again.
    provider
        .fetch_lease(poll)
        .await
        .map(drop)
        .expect_err("the backend fails");
    assert_eq!(requests(&proxy), (3, 1));
}

#[tokio::test]
async fn a_description_that_hangs_does_not_delay_the_start() {
    let proxy = proxy();
    // With the SDK's default timeouts.
    let provider = new_provider(&aws(&proxy.endpoint()));
    proxy.fault_on("GetSecretValue", credentials());
    proxy.fault_on("DescribeSecret", InjectedFault::Stall);
    first_lease(&provider).await;
    // The start waited for less than one attempt, after which the SDK makes another.
    assert_eq!(requests(&proxy), (1, 1));
}

#[tokio::test]
async fn a_fetch_after_a_rejection_needs_no_description() {
    let (proxy, provider) = provider(1);
    proxy.fault_on("DescribeSecret", InjectedFault::reply(200, "{}"));
    proxy.fault_on("GetSecretValue", credentials());
    let current = first_lease(&provider).await;
    let (described, _) = requests(&proxy);
    let rejected = FetchRequest::<Credentials>::new(RotationTrigger::Rejected)
        .with_rejected([current.revision().clone()])
        .with_current(current);
    // All three staging labels return the same version: one candidate.
    provider
        .fetch_lease(rejected)
        .await
        .expect("the first choice again");
    assert_eq!(requests(&proxy), (described, 1 + 3));
    let labels: Vec<_> = proxy
        .log()
        .iter()
        .filter(|request| request.operation == "GetSecretValue")
        .map(|request| request.body.clone())
        .collect();
    for (body, label) in
        labels
            .iter()
            .zip(["AWSCURRENT", "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"])
    {
        assert!(
            body.contains(&format!("\"VersionStage\":\"{label}\"")),
            "{body}"
        );
    }
}

type MakeError = fn() -> CredentialsError;

/// A credentials chain that fails.
#[derive(Debug)]
struct BrokenChain(MakeError);

impl ProvideCredentials for BrokenChain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err((self.0)()))
    }
}

#[tokio::test]
async fn a_failure_of_the_credentials_chain_carries_its_cause() {
    let proxy = proxy();
    let cases: [(MakeError, Kind, &str, &str); 5] = [
        (
            || CredentialsError::not_loaded("no profile"),
            Kind::Unavailable,
            "give the service a role",
            "no profile",
        ),
        (
            || CredentialsError::provider_error("IMDS is off"),
            Kind::Unavailable,
            "could not be loaded",
            "IMDS is off",
        ),
        (
            || CredentialsError::provider_error("AccessDenied: role/x"),
            Kind::Denied,
            "sts:AssumeRole",
            "AccessDenied: role/x",
        ),
        (
            || CredentialsError::provider_timed_out(Duration::from_secs(5)),
            Kind::TimedOut,
            "timed out",
            "5 seconds",
        ),
        (
            || CredentialsError::invalid_configuration("profile loops"),
            Kind::Misconfigured,
            "profile",
            "profile loops",
        ),
    ];
    let with_chain = |make_error: MakeError| {
        let chain = SharedCredentialsProvider::new(BrokenChain(make_error));
        let aws = config(&proxy, 1)
            .into_builder()
            .credentials_provider(chain)
            .build();
        new_provider(&aws)
    };
    for (make_error, kind, advice, cause) in cases {
        let error = failure(&with_chain(make_error)).await;
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("secret orders in eu-west-1, AWSCURRENT: "),
            "{text}"
        );
        assert!(text.contains(advice) && text.contains(cause), "{text}");
    }
    // Output of a process and quoted requests are left out.
    let quoting_errors: [MakeError; 2] = [
        || CredentialsError::provider_error("exit status: 1. Stderr: CANARY"),
        || CredentialsError::provider_error("Canonical String 'x-amz-security-token:CANARY'"),
    ];
    for quoting in quoting_errors {
        failure(&with_chain(quoting)).await;
    }
    assert_eq!(proxy.connections(), 0, "no request was sent");
}

#[tokio::test]
async fn an_invalid_setting_fails_at_construction() {
    let proxy = proxy();
    let config = config(&proxy, 1);
    let json = || SecretsManager::builder(&config, "orders");
    let password = || json().with_plain_password("app");
    for (builder, names) in [
        (json().with_user_key(""), "\"user_key\""),
        (json().with_password_key("a\0b"), "\"password_key\""),
        (json().with_host_key(""), "\"host_key\""),
        (json().with_port_key(""), "\"port_key\""),
        (json().with_database_key(""), "\"database_key\""),
        (
            password().with_user_key("user"),
            "\"user_key\" has no effect on a secret that is only a password",
        ),
        (
            password().with_endpoint_from_secret(),
            "\"endpoint_from_secret\" has no effect",
        ),
    ] {
        let error = builder.build().map(drop).expect_err(names);
        assert_eq!(error.kind(), Kind::Misconfigured);
        assert!(error.to_string().contains(names), "{error}");
    }
    for user in ["", "a\0b"] {
        let error = SecretsManager::password(&config, "orders", user)
            .map(drop)
            .expect_err("no user");
        assert!(
            error.kind() == Kind::Misconfigured && error.to_string().starts_with("\"user\""),
            "{error}"
        );
    }
    assert_eq!(proxy.connections(), 0);
}
