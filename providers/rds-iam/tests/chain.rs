//! needs: moto
//!
//! A chain that assumes a role at STS: the kind of each failure, and whether it is transient.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger_rds_iam::RdsIam;
use claviger_servers::{InjectedFault, Moto, Proxy};
use claviger_testkit::FetchLease;
use common::{
    HOST, USER, assume_role, fetch_again, first_lease, parameter, start_moto, token, wall_time,
};

/// A role at STS, behind a proxy.
struct Role {
    proxy: Proxy,
    provider: RdsIam,
    _moto: Moto,
}

impl Role {
    async fn new() -> Self {
        let moto = start_moto().await;
        let proxy = Proxy::start(&moto.endpoint()).expect("a proxy starts");
        let (base, chain) = assume_role(&proxy.endpoint(), "wJalrXUtnFEMI/EXAMPLEKEY").await;
        let aws = base
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(chain))
            .build();
        let provider = RdsIam::new(&aws, HOST, 5432, USER).expect("the arguments are valid");
        Self {
            proxy,
            provider,
            _moto: moto,
        }
    }

    /// Returns the error of a fetch during this fault of STS. Afterwards STS works again.
    async fn fetch_error(&self, fault: InjectedFault) -> ProviderError {
        self.proxy.fault(fault);
        let error = self
            .provider
            .fetch_lease(FetchRequest::first())
            .await
            .expect_err("STS fails");
        self.proxy.heal();
        first_lease(&self.provider).await;
        error
    }
}

fn sts_error(status: u16, code: &str) -> InjectedFault {
    let error = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>not here</Message></Error></ErrorResponse>"
    );
    InjectedFault::reply(status, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_signs_and_each_token_costs_one_call() {
    let role = Role::new().await;
    let current = first_lease(&role.provider).await;
    assert_eq!(role.proxy.requests("AssumeRole"), 1);
    let key = parameter(token(&current), "X-Amz-Credential").expect("it names the key");
    assert!(key.starts_with("ASIA"), "{key}");
    assert!(parameter(token(&current), "X-Amz-Security-Token").is_some());
    // The session is valid for an hour, the token for 15 minutes.
    let end = current
        .expiry()
        .wall()
        .expect("it ends")
        .duration_since(wall_time())
        .unwrap_or_default();
    assert!(end.as_secs() >= 898 && end.as_secs() <= 900, "{end:?}");
    let next = fetch_again(&role.provider, RotationTrigger::Schedule, &current).await;
    assert_ne!(next.revision(), current.revision());
    assert_eq!(role.proxy.requests("AssumeRole"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_sts_has_its_error_kind() {
    use ProviderErrorKind::{Denied, Throttled, Unavailable};
    let role = Role::new().await;
    for (fault, kind, transient, expected) in [
        (
            sts_error(403, "AccessDenied"),
            Denied,
            false,
            "trust policy",
        ),
        (
            sts_error(400, "Throttling"),
            Throttled,
            true,
            "throttles requests",
        ),
        (
            sts_error(500, "InternalFailure"),
            Unavailable,
            true,
            "could not be loaded",
        ),
        (
            InjectedFault::Refuse,
            Unavailable,
            true,
            "could not be loaded",
        ),
        (InjectedFault::Cut, Unavailable, true, "could not be loaded"),
    ] {
        let case = format!("{fault:?}");
        let error = role.fetch_error(fault).await;
        assert_eq!(
            (error.kind(), error.is_transient()),
            (kind, transient),
            "{case}: {error}"
        );
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert!(!error.to_string().contains("EXAMPLEKEY"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sts_that_hangs_times_out_before_the_fetch_does() {
    let role = Role::new().await;
    let error = tokio::time::timeout(
        Duration::from_secs(30),
        role.fetch_error(InjectedFault::Stall),
    )
    .await
    .expect("within the default deadline of a fetch");
    assert!(
        error.is_transient() && error.kind() == ProviderErrorKind::TimedOut,
        "{error}"
    );
}
