//! needs: moto
//!
//! A chain that assumes a role at STS: the kind of each failure, and whether it is transient.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger_rds_iam::RdsIam;
use claviger_servers::{InjectedFault, Moto, Proxy};
use claviger_testkit::FetchLease;
use common::{HOST, USER, again, first, now, parameter, token};

/// A role at STS, behind a proxy.
struct Role {
    proxy: Proxy,
    provider: RdsIam,
    _moto: Moto,
}

impl Role {
    async fn new() -> Self {
        let moto = tokio::task::spawn_blocking(|| Moto::start().expect("moto starts"))
            .await
            .expect("its thread ends");
        let proxy = Proxy::start(&moto.endpoint()).expect("a proxy starts");
        let key = AwsCredentials::new(
            "AKIAEXAMPLE",
            "wJalrXUtnFEMI/EXAMPLEKEY",
            None,
            None,
            "test",
        );
        let base = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(key);
        let base = base.endpoint_url(proxy.endpoint()).load().await;
        let role = AssumeRoleProvider::builder("arn:aws:iam::123456789012:role/orders")
            .session_name("orders")
            .configure(&base)
            .build()
            .await;
        let aws = base
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(role))
            .build();
        let provider = RdsIam::new(&aws, HOST, 5432, USER).expect("the arguments are valid");
        Self {
            proxy,
            provider,
            _moto: moto,
        }
    }

    /// Returns the error of a fetch with this fault of STS; afterwards STS works again.
    async fn failing(&self, fault: InjectedFault) -> ProviderError {
        self.proxy.fault(fault);
        let error = self
            .provider
            .fetch_lease(FetchRequest::first())
            .await
            .expect_err("STS fails");
        self.proxy.heal();
        first(&self.provider).await;
        error
    }
}

fn response(status: u16, code: &str) -> InjectedFault {
    let error = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>not here</Message></Error></ErrorResponse>"
    );
    InjectedFault::reply(status, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_signs_and_each_token_is_one_call() {
    let role = Role::new().await;
    let current = first(&role.provider).await;
    assert_eq!(role.proxy.requests("AssumeRole"), 1);
    let key = parameter(token(&current), "X-Amz-Credential").expect("it names the key");
    assert!(key.starts_with("ASIA"), "{key}");
    assert!(parameter(token(&current), "X-Amz-Security-Token").is_some());
    // The session is valid for an hour, the token for 15 minutes.
    let end = current
        .expiry()
        .wall()
        .expect("it ends")
        .duration_since(now())
        .unwrap_or_default();
    assert!(end.as_secs() >= 898 && end.as_secs() <= 900, "{end:?}");
    let next = again(&role.provider, RotationTrigger::Schedule, &current).await;
    assert_ne!(next.revision(), current.revision());
    assert_eq!(role.proxy.requests("AssumeRole"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_sts_has_its_error_kind() {
    use ProviderErrorKind::{Denied, Throttled, Unavailable};
    let role = Role::new().await;
    for (fault, kind, passes, expected) in [
        (response(403, "AccessDenied"), Denied, false, "trust policy"),
        (
            response(400, "Throttling"),
            Throttled,
            true,
            "throttles requests",
        ),
        (
            response(500, "InternalFailure"),
            Unavailable,
            true,
            "this is retried",
        ),
        (InjectedFault::Refuse, Unavailable, true, "this is retried"),
        (InjectedFault::Cut, Unavailable, true, "this is retried"),
    ] {
        let case = format!("{fault:?}");
        let error = role.failing(fault).await;
        assert_eq!(
            (error.kind(), error.is_transient()),
            (kind, passes),
            "{case}: {error}"
        );
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert!(!error.to_string().contains("EXAMPLEKEY"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_times_out_before_the_fetch_does() {
    let role = Role::new().await;
    let error = tokio::time::timeout(Duration::from_secs(30), role.failing(InjectedFault::Stall))
        .await
        .expect("within the core's default deadline");
    assert!(
        error.is_transient() && error.kind() == ProviderErrorKind::TimedOut,
        "{error}"
    );
}
