//! Responses of the routes, from the first lease to the shutdown.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use claviger::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use serde_json::{Value, json};
use tower::ServiceExt;

async fn get_json(router: &Router, path: &str) -> (StatusCode, Value, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("it responds");
    let (code, cache) = (
        response.status(),
        response.headers().get("cache-control").cloned(),
    );
    let body = to_bytes(response.into_body(), 1 << 20)
        .await
        .expect("a body");
    if code.is_success() || code == StatusCode::SERVICE_UNAVAILABLE {
        assert_eq!(cache.expect("there is a cache-control header"), "no-store");
    }
    let text = String::from_utf8(body.to_vec()).expect("text");
    (
        code,
        serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    )
}

#[tokio::test(start_paused = true)]
async fn livez_is_always_200_and_readyz_while_credentials_are_valid() {
    let lab = Lab::new();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let router: Router = claviger_axum::probes(&lab.supervisor);
    assert_eq!(
        get_json(&router, "/readyz").await.0,
        StatusCode::OK,
        "nothing is registered"
    );

    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("it starts");
    let pool = lab
        .supervisor
        .add_pool("orders", &credentials, database.clone())
        .await
        .expect("it is verified");
    assert_eq!(
        get_json(&router, "/readyz").await.1,
        json!({ "ready": true, "reasons": [] })
    );

    // The database rejects the credentials, and the backend is down.
    provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    database.accept_only(["nothing"]);
    pool.rejected(
        1,
        &ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed"),
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (code, body, _) = get_json(&router, "/readyz").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body["reasons"][0],
        "the database rejects the credentials of pool \"orders\""
    );
    assert_eq!(
        get_json(&router, "/livez").await.0,
        StatusCode::OK,
        "a restart would not help"
    );

    // It recovers by itself.
    database.accept_only(["password-1"]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(get_json(&router, "/readyz").await.0, StatusCode::OK);

    // Announcing a shutdown changes nothing else.
    lab.supervisor.announce_shutdown();
    let (code, body, _) = get_json(&router, "/readyz").await;
    assert_eq!(
        (code, body),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "ready": false, "reasons": ["this instance is about to shut down"] })
        )
    );
    let (_, body, _) = get_json(&router, "/livez").await;
    assert_eq!(
        body,
        json!({ "alive": true, "shutting_down": false, "restarts": 0 })
    );
    provider.recover();
    assert!(
        lab.supervisor.rotate_now("login").await.is_ok(),
        "rotations continue"
    );

    lab.supervisor.shutdown(Duration::from_secs(1)).await;
    assert_eq!(
        get_json(&router, "/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let (code, body, _) = get_json(&router, "/livez").await;
    assert_eq!(
        (code, body),
        (
            StatusCode::OK,
            json!({ "alive": true, "shutting_down": true, "restarts": 0 })
        )
    );
}

#[tokio::test(start_paused = true)]
async fn status_is_a_separate_router_without_secrets() {
    let lab = Lab::new();
    let (provider, database) = (
        ScriptedProvider::new().with_lifetime(Duration::from_secs(600)),
        ScriptedPools::new(4),
    );
    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("it starts");
    let _pool = lab
        .supervisor
        .add_pool("orders", &credentials, database.clone())
        .await
        .expect("it is verified");
    provider.fail_next(
        1,
        ProviderError::new(ProviderErrorKind::Throttled, "rate exceeded"),
    );
    let outcome = lab.supervisor.rotate_now("login").await;
    assert!(outcome.is_err());

    let probes: Router = claviger_axum::probes(&lab.supervisor);
    assert_eq!(
        get_json(&probes, "/status").await.0,
        StatusCode::NOT_FOUND,
        "it is not mounted by default"
    );
    let operators: Router = claviger_axum::status(&lab.supervisor);
    let (code, body, text) = get_json(&operators, "/status").await;
    assert_eq!(code, StatusCode::OK);
    let provider = &body["providers"][0];
    assert_eq!(
        (&provider["name"], &provider["rejected"]),
        (&json!("login"), &json!(false))
    );
    assert_eq!(
        provider["last_error"],
        json!({ "kind": "throttled", "message": "rate exceeded", "transient": true })
    );
    assert!(
        provider["remaining_seconds"]
            .as_f64()
            .is_some_and(|left| left > 590.0 && left <= 600.0),
        "{provider}"
    );
    assert!(
        provider["expires"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z')),
        "{provider}"
    );
    let pool = &body["pools"][0];
    assert_eq!(
        (&pool["name"], &pool["generation"], &pool["serving"]),
        (&json!("orders"), &json!(1), &json!(true))
    );
    assert_eq!(pool["last_handover"]["mode"], "replace");
    assert!(!text.contains("password-1"), "{text}");
}
