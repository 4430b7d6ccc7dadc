//! Operations over HTTP: tokens, limits, bodies, errors, and what is logged.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "operations/logging.rs"]
mod logging;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode, header};
use claviger::Supervisor;
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger_axum::{OperatorToken, operations};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use serde_json::{Value, json};
use tower::ServiceExt;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
const WRONG: &str = "0123456789abcdef0123456789abcdee";
const JSON: &str = "application/json";

struct Service {
    lab: Lab,
    provider: ScriptedProvider,
    database: ScriptedPools,
    router: Router,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn error(&self) -> &Value {
        &self.body["error"]
    }
}

impl Service {
    async fn start() -> Self {
        let builder = Supervisor::builder();
        let builder = builder.with_previous_lease_kept_for(Duration::from_secs(600));
        let lab = Lab::with_builder(builder).expect("a lab");
        let database = ScriptedPools::new(4);
        let provider = ScriptedProvider::new().with_new_credential_per_fetch();
        let credentials = lab
            .supervisor
            .add_provider("orders-credentials", provider.clone())
            .await
            .expect("it starts");
        lab.supervisor
            .add_pool("orders", &credentials, database.clone())
            .await
            .expect("it is verified");
        let tokens = [("on-call", TOKEN), ("next", OTHER)];
        let tokens =
            tokens.map(|(label, token)| OperatorToken::new(label, token).expect("a token"));
        let router = operations(&lab.supervisor, tokens);
        Self {
            lab,
            provider,
            database,
            router,
        }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await;
        let response = response.expect("a response");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 20).await;
        let body = serde_json::from_slice(&body.expect("a body")).unwrap_or_default();
        Reply {
            status,
            headers,
            body,
        }
    }

    async fn post(&self, path: &str, token: &str, body: &str) -> Reply {
        let authorization = format!("Bearer {token}");
        self.send(request(path, Some(&authorization), JSON, body))
            .await
    }

    async fn rotate(&self, token: &str) -> Reply {
        let body = r#"{"provider": "orders-credentials"}"#;
        self.post("/rotate", token, body).await
    }
}

fn request(path: &str, authorization: Option<&str>, kind: &str, body: &str) -> Request<Body> {
    let mut request = Request::post(path).header("content-type", kind);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let client: SocketAddr = "192.0.2.7:4711".parse().expect("an address");
    let request = request.extension(ConnectInfo(client));
    request
        .body(Body::from(body.to_owned()))
        .expect("a request")
}

#[tokio::test(start_paused = true)]
async fn each_valid_token_rotates_a_provider() {
    let service = Service::start().await;
    for (token, generation) in [(TOKEN, 2), (OTHER, 3)] {
        let reply = service.rotate(token).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(reply.headers["cache-control"], "no-store");
        assert_eq!(reply.body["operation"], "rotate");
        assert_eq!(reply.body["name"], "orders-credentials");
        let report = &reply.body["result"];
        assert_eq!(report["outcome"], "adopted");
        assert_eq!(report["trigger"], "manual");
        assert_eq!(report["handovers"][0]["generation"], generation);
        assert!(!reply.body.to_string().contains("password-"));
        // Calls within a second share one fetch.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_provider_is_not_rotated_until_it_is_resumed() {
    let service = Service::start().await;
    let body = r#"{"provider": "orders-credentials"}"#;
    let reply = service.post("/hold", TOKEN, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(reply.body["operation"], "hold");
    assert!(reply.body["result"]["held"].is_string(), "{}", reply.body);
    let reply = service.rotate(TOKEN).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.error()["kind"], "held");
    let reply = service.post("/resume", TOKEN, body).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.body["result"]["held"].is_null(), "{}", reply.body);
    assert_eq!(service.rotate(TOKEN).await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_pool_returns_to_its_previous_lease() {
    let service = Service::start().await;
    let body = r#"{"pool": "orders"}"#;
    let reply = service.post("/roll_back", TOKEN, body).await;
    assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.body);
    assert_eq!(reply.error()["kind"], "not_possible");
    assert_eq!(service.rotate(TOKEN).await.status, StatusCode::OK);
    let reply = service.post("/roll_back", TOKEN, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(reply.body["name"], "orders");
    let report = &reply.body["result"];
    assert_eq!(report["trigger"], "roll_back");
    assert_eq!(report["handovers"][0]["generation"], 3);
    let reply = service
        .post("/roll_back", TOKEN, r#"{"pool": "order"}"#)
        .await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.error()["nearest"], "orders");
    let reply = service
        .post("/roll_back", TOKEN, r#"{"provider": "orders"}"#)
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_of_a_provider_and_of_a_pool_serves_nothing_new() {
    let service = Service::start().await;
    for (body, name) in [
        (
            r#"{"provider": "orders-credentials"}"#,
            "orders-credentials",
        ),
        (r#"{"pool": "orders"}"#, "orders"),
    ] {
        let reply = service.post("/rehearse", TOKEN, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(reply.body["name"], name);
        assert_eq!(reply.body["outcome"], "verified");
        let pool = &reply.body["result"]["pools"][0];
        assert_eq!(
            (&pool["pool"], &pool["error"]),
            (&json!("orders"), &Value::Null)
        );
        assert!(!reply.body.to_string().contains("password-"));
    }
    let status = service.lab.supervisor.status();
    assert_eq!(status.pools[0].generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_and_a_wrong_token_have_the_same_response() {
    let service = Service::start().await;
    let body = r#"{"provider": "orders-credentials"}"#;
    let longer = format!("Bearer {TOKEN}0");
    let wrong = format!("Bearer {WRONG}");
    let basic = format!("Basic {TOKEN}");
    let mut replies = Vec::new();
    for authorization in [
        None,
        Some(""),
        Some("Bearer "),
        Some(TOKEN),
        Some(&*basic),
        Some(&*longer),
        Some(&*wrong),
    ] {
        let sent = request("/rotate", authorization, JSON, body);
        let reply = service.send(sent).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{authorization:?}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        assert_eq!(reply.headers["cache-control"], "no-store");
        replies.push(reply.body);
    }
    replies.dedup();
    assert_eq!(
        replies,
        [json!({ "error": {
            "kind": "unauthorized",
            "message": "a valid token is required: Authorization: Bearer TOKEN",
        }})]
    );
    assert_eq!(service.provider.calls().len(), 1, "only the start's fetch");
}

#[tokio::test(start_paused = true)]
async fn operations_are_limited_and_wrong_tokens_block_nobody() {
    let service = Service::start().await;
    let mut limited = 0;
    for _ in 0..100 {
        let reply = service.rotate(WRONG).await;
        limited += u32::from(reply.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(limited, 90);
    // An operation that takes no time.
    let unknown = async || {
        service
            .post("/rotate", TOKEN, r#"{"provider": "xyz"}"#)
            .await
    };
    for _ in 0..10 {
        assert_eq!(unknown().await.status, StatusCode::NOT_FOUND);
    }
    let reply = unknown().await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    let body = r#"{"provider": "xyz"}"#;
    for (path, token) in [("/rotate", OTHER), ("/hold", TOKEN)] {
        let other = service.post(path, token, body).await;
        assert_eq!(other.status, StatusCode::NOT_FOUND, "it has its own limit");
    }
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(reply.error()["kind"], "too_many_requests");
    assert_eq!(reply.error()["retry_after_seconds"], 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(unknown().await.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown().await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_an_error_with_the_nearest_one() {
    let service = Service::start().await;
    let body = r#"{"provider": "order-credential"}"#;
    let reply = service.post("/rotate", TOKEN, body).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.error()["kind"], "not_registered");
    assert_eq!(reply.error()["nearest"], "orders-credentials");
    let reply = service
        .post("/rotate", TOKEN, r#"{"provider": "xyz"}"#)
        .await;
    assert_eq!(reply.error()["nearest"], Value::Null);
    // A token in the wrong place is not shown.
    let body = format!(r#"{{"provider": "{OTHER}"}}"#);
    let reply = service.post("/rotate", TOKEN, &body).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(
        reply.error()["message"],
        "no provider is named \"fedcba98…\"; registered: \"orders-credentials\""
    );
    let long = "x".repeat(201);
    for name in [&*long, "a\\u0007b", "a\\nb"] {
        let body = format!(r#"{{"provider": "{name}"}}"#);
        let reply = service.post("/rotate", TOKEN, &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.body);
        let message = reply.error()["message"].as_str().expect("a message");
        assert!(
            message.starts_with("provider: has more than 200"),
            "{message}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_request_is_an_error_that_names_the_right_form() {
    let service = Service::start().await;
    for body in [
        "",
        "rotate",
        "{}",
        "[]",
        r#"{"provider": 1}"#,
        r#"{"provider": ["0123456789abcdef0123456789abcdef"]}"#,
        r#""0123456789abcdef0123456789abcdef""#,
        r#"{"pool": "orders"}"#,
        r#"{"provider": "orders-credentials", "pool": "orders"}"#,
        r#"{"provider": "orders-credentials", "force": true}"#,
    ] {
        let reply = service.post("/rotate", TOKEN, body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(reply.error()["kind"], "invalid_input");
        let message = reply.error()["message"].as_str().expect("a message");
        assert_eq!(
            message,
            r#"body: is not that of rotate; give {"provider": "NAME"}"#
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let authorization = format!("Bearer {TOKEN}");
    let form = request(
        "/rotate",
        Some(&authorization),
        "application/x-www-form-urlencoded",
        "provider=orders-credentials",
    );
    let reply = service.send(form).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = format!(r#"{{"provider": "{}"}}"#, "x".repeat(5_000));
    let reply = service.post("/rotate", TOKEN, &long).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let get = Request::get("/rotate").body(Body::empty());
    let reply = service.send(get.expect("a request")).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.error()["kind"], "invalid_input");
    assert_eq!(reply.headers[header::ALLOW], "POST");
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_backend_and_of_a_shutdown_have_their_kind() {
    let service = Service::start().await;
    let denied = ProviderError::new(ProviderErrorKind::Denied, "no permission");
    service.provider.fail_next(1, denied);
    let reply = service.rotate(TOKEN).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert_eq!(reply.error()["kind"], "provider");
    assert_eq!(
        reply.error()["cause"],
        json!({ "kind": "denied", "message": "no permission", "transient": false })
    );
    service
        .lab
        .supervisor
        .shutdown(Duration::from_secs(1))
        .await;
    let reply = service.rotate(TOKEN).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.error()["kind"], "shut_down");
}

#[test]
fn the_error_of_an_invalid_token_does_not_contain_the_token() {
    for (label, token, problem) in [
        (
            "on-call",
            "short",
            "token: has 5 characters; give at least 32",
        ),
        ("on-call", "", "token: has 0 characters; give at least 32"),
        (
            "on-call",
            "0123456789abcdef 0123456789abcdef",
            "token: has a space or another character",
        ),
        ("", TOKEN, "label: is empty"),
    ] {
        let error = OperatorToken::new(label, token).expect_err("unsuitable");
        let text = format!("{error} {error:?}");
        assert!(text.starts_with(problem), "{text}");
        assert!(token.is_empty() || !text.contains(token), "{text}");
    }
    let token = OperatorToken::new("on-call", format!("{TOKEN}\n")).expect("a line end is no part");
    assert!(!format!("{token:?}").contains(TOKEN));
}
