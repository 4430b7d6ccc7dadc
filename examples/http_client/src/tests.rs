//! Calls continue while tokens rotate, and while they are revoked.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Supervisor;

use crate::api::Api;
use crate::client::ApiClients;
use crate::service::{self, Service};
use crate::token::TokenProvider;

const CALLERS: usize = 16;

async fn start_api() -> (Service, Supervisor, Api) {
    let service = service::start().await.expect("a free port");
    let http = reqwest::Client::new();
    let supervisor = Supervisor::start();
    let provider = TokenProvider::new(service.address(), http.clone());
    let token = supervisor
        .add_provider("api-token", provider)
        .await
        .expect("a token");
    let clients = ApiClients::new(service.address(), http);
    let handle = supervisor.add_pool("orders-api", &token, clients);
    let api = Api::new(handle.await.expect("verified"));
    (service, supervisor, api)
}

/// Starts callers that each make this many calls. None of them may fail.
fn start_callers(api: &Api, calls: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let caller = |_| {
        let api = api.clone();
        tokio::spawn(async move {
            for _ in 0..calls {
                assert_eq!(api.orders().await.expect("orders"), 42);
            }
        })
    };
    (0..CALLERS).map(caller).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_tokens_rotate() {
    let (service, supervisor, api) = start_api().await;
    let callers = start_callers(&api, 200);
    for _ in 0..3 {
        supervisor.rotate_now("api-token").await.expect("rotated");
    }
    for caller in callers {
        caller.await.expect("no call fails");
    }
    assert_eq!(service.token_requests(), 4);
    assert_eq!(service.rejected_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_request_replaces_a_revoked_token_for_all_rejected_calls() {
    let (service, supervisor, api) = start_api().await;
    for caller in start_callers(&api, 1) {
        caller.await.expect("no call fails");
    }
    service.revoke_tokens();
    for caller in start_callers(&api, 20) {
        caller.await.expect("no call fails");
    }
    assert!(
        service.rejected_calls() > 0,
        "the hazard: calls are rejected"
    );
    assert_eq!(service.token_requests(), 2);
    let report = supervisor.shutdown(Duration::from_secs(5)).await;
    assert!(report.clean, "{report:?}");
}
