//! Requests to the operators' port of a running service.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use claviger::{Handle, PgPools, Supervisor};
use claviger_axum::OperatorToken;
use claviger_file::FileProvider;
use claviger_servers::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::common::{Run, SECRET, Setup, pool};

/// The operator's token. No output may contain it.
const TOKEN: &str = "6f0c4e1b0d5a4f2e9c3b7a8d1e2f3a4b";

/// Runs the command beside the service.
async fn run(arguments: &[&str]) -> Run {
    let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
    let run = spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Setup::new().run("", &arguments)
    });
    let run = run.await.expect("it runs");
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains(TOKEN), "the output contains the token");
    }
    run
}

/// Serves the router on a port of its own. Returns the address.
async fn serve(router: Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let service = tokio::spawn(async move {
        axum::serve(listener, router).await.expect("it serves");
    });
    (url, service)
}

/// A supervisor with a pool `orders` of the provider `app-credentials`.
async fn supervise(server: &Postgres, password: &Path) -> (Supervisor, Handle<PgPools>) {
    let supervisor = Supervisor::start();
    let provider = FileProvider::password(password, "app").expect("a provider");
    let provider = supervisor.add_provider("app-credentials", provider).await;
    let options = PgConnectOptions::new_without_pgpass()
        .host(server.host())
        .port(server.port())
        .database("postgres");
    let pools = PgPools::new(options, PgPoolOptions::new().max_connections(7));
    let db = supervisor
        .add_pool("orders", &provider.expect("a provider"), pools)
        .await;
    (supervisor, db.expect("a pool"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_running_service_is_shown() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let (supervisor, db) = supervise(&server, &setup.path("password")).await;
    let (url, service) = serve(claviger_axum::status(&supervisor)).await;

    let status = run(&["status", "--url", &url]).await;
    assert_eq!(status.code, Some(0), "{}{}", status.stdout, status.stderr);
    let row = status.stdout.lines().nth(1).unwrap_or_default().to_owned();
    assert!(
        row.starts_with("orders  ") && row.contains("serving"),
        "{row}"
    );
    assert!(row.contains("/7") && row.contains("never"), "{row}");
    let json = run(&["status", "--json", "--url", &url]).await;
    assert!(
        json.stdout.contains("\"app-credentials\""),
        "{}",
        json.stdout
    );

    // The operations are not mounted, and need a token.
    let rotate = ["rotate", "app-credentials", "--url", &url];
    let without_token = run(&rotate).await;
    assert_eq!(without_token.code, Some(2), "{}", without_token.stderr);
    let with_token = [&rotate[..], &["--token", SECRET]].concat();
    let unmounted = run(&with_token).await;
    assert_eq!(unmounted.code, Some(1), "{}", unmounted.stderr);
    assert!(
        unmounted.stderr.contains("/rotate is not mounted"),
        "{}",
        unmounted.stderr
    );

    service.abort();
    let _ = service.await;
    let ended = run(&["status", "--url", &url]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot be reached"),
        "{}",
        ended.stderr
    );
    let invalid = run(&["status", "--url", SECRET]).await;
    assert_eq!(invalid.code, Some(2), "{}", invalid.stderr);
    drop(db);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_by_the_file_shows_what_a_rotation_would_wait_for() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let (_supervisor, db) = supervise(&server, &setup.path("password")).await;
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    let setup = Arc::new(setup);
    let rehearse = async || {
        let (config, setup) = (config.clone(), Arc::clone(&setup));
        let rehearsal = spawn_blocking(move || {
            let rehearsal = setup.report(&config, &["rehearse", "orders", "--json"]);
            rehearsal.assert_fine();
            rehearsal.finding("drain")["detail"].to_string()
        });
        rehearsal.await.expect("it runs")
    };
    let idle = rehearse().await;
    assert!(idle.contains("nothing that this user may see"), "{idle}");
    let transaction = db.begin().await.expect("a transaction");
    let busy = rehearse().await;
    assert!(busy.contains("1 running now, the longest for "), "{busy}");
    drop(transaction);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_a_running_service_is_rotated_and_rehearsed() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let (supervisor, db) = supervise(&server, &setup.path("password")).await;
    let token = OperatorToken::new("on-call", TOKEN).expect("a token");
    let router =
        claviger_axum::status(&supervisor).merge(claviger_axum::operations(&supervisor, [token]));
    let (url, service) = serve(router).await;
    let token_file = setup.write("operator", &format!("{TOKEN}\n"));
    let with_token = ["--url", &url, "--token-file", &token_file];
    let operate = async |operation: &str, name: &str, more: &[&str]| {
        run(&[&[operation, name], more].concat()).await
    };

    let same = operate("rotate", "app-credentials", &with_token).await;
    assert_eq!(same.code, Some(0), "{}{}", same.stdout, same.stderr);
    let rehearsed = operate("rehearse", "app-credentials", &with_token).await;
    assert_eq!(rehearsed.code, Some(0), "{}", rehearsed.stderr);
    assert!(
        rehearsed.stdout.contains("orders: verified") && rehearsed.stdout.contains("has 7"),
        "{}",
        rehearsed.stdout
    );
    assert_eq!(db.generation(), 1);

    // A new password that the database does not accept yet.
    let new = format!("{SECRET}-next");
    setup.write("password", &new);
    let rejected = operate("rehearse", "app-credentials", &with_token).await;
    assert_eq!(
        rejected.code,
        Some(1),
        "{}{}",
        rejected.stdout,
        rejected.stderr
    );
    assert!(
        rejected.stdout.contains("orders: FAIL, "),
        "{}",
        rejected.stdout
    );
    server.set_password("app", &new).expect("changed");
    let rotated = operate("rotate", "app-credentials", &with_token).await;
    assert_eq!(
        rotated.code,
        Some(0),
        "{}{}",
        rotated.stdout,
        rotated.stderr
    );
    let json = [&with_token[..], &["--json"]].concat();
    let json = operate("rehearse", "app-credentials", &json).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["result"]["pools"][0]["pool"], "orders", "{json:#}");

    let unknown = operate("rotate", "ap-credentials", &with_token).await;
    assert_eq!(unknown.code, Some(1), "{}", unknown.stdout);
    let nearest = "the nearest name is app-credentials";
    assert!(unknown.stderr.contains(nearest), "{}", unknown.stderr);
    let wrong = ["--url", &url, "--token", &TOKEN.replace('6', "7")];
    let wrong = operate("rotate", "app-credentials", &wrong).await;
    assert_eq!(wrong.code, Some(1), "{}", wrong.stdout);
    assert!(
        wrong.stderr.contains("is not valid there"),
        "{}",
        wrong.stderr
    );
    for token in ["", "two\nlines"] {
        let invalid = ["--url", &url, "--token", token];
        let invalid = operate("rotate", "app-credentials", &invalid).await;
        assert_eq!(invalid.code, Some(2), "{}", invalid.stderr);
        assert!(invalid.stderr.contains("token"), "{}", invalid.stderr);
    }
    let missing = ["--url", &url, "--token-file", "/nonexistent/token"];
    let missing = operate("rotate", "app-credentials", &missing).await;
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    assert!(
        missing.stderr.contains("/nonexistent/token"),
        "{}",
        missing.stderr
    );

    supervisor.shutdown(std::time::Duration::from_secs(5)).await;
    let shut_down = operate("rotate", "app-credentials", &with_token).await;
    assert_eq!(shut_down.code, Some(1), "{}", shut_down.stdout);
    service.abort();
    let _ = service.await;
    let down = operate("rotate", "app-credentials", &with_token).await;
    assert_eq!(down.code, Some(1), "{}", down.stdout);
    assert!(down.stderr.contains("cannot be reached"), "{}", down.stderr);
}

/// Programs that are not Claviger's, or that repeat what they received.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_on_the_port_is_recognized_and_repeats_no_token() {
    let repeat = async |headers: HeaderMap, as_error: bool| {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = token.unwrap_or("none").to_owned();
        let body = if as_error {
            serde_json::json!({ "error": { "message": format!("no {token}") } })
        } else {
            serde_json::json!({ "operation": "rotate", "result": {
                "outcome": token, "waiting": [token],
            } })
        };
        axum::Json(body)
    };
    let router = Router::new()
        .route(
            "/health/status",
            axum::routing::get(async || r#"{"status":"ok"}"#),
        )
        .route(
            "/health/rotate",
            axum::routing::post(async || r#"{"status":"ok"}"#),
        )
        .route("/page/status", axum::routing::get(async || "<html></html>"))
        .route("/list/status", axum::routing::get(async || "[]"))
        .route(
            "/error/rotate",
            axum::routing::post(async move |headers: HeaderMap| repeat(headers, true).await),
        )
        .route(
            "/result/rotate",
            axum::routing::post(async move |headers: HeaderMap| repeat(headers, false).await),
        );
    let (url, _service) = serve(router).await;
    for (path, arguments) in [
        ("health", &["status"][..]),
        ("health", &["status", "--json"]),
        ("health", &["rotate", "app", "--token", TOKEN]),
        ("page", &["status"]),
        ("list", &["status"]),
    ] {
        let url = format!("{url}/{path}");
        let other = run(&[arguments, &["--url", &url]].concat()).await;
        assert_eq!(other.code, Some(1), "{path}: {}", other.stdout);
        let words = "not that of claviger-axum";
        assert!(other.stderr.contains(words), "{path}: {}", other.stderr);
    }
    for (path, more) in [
        ("error", None),
        ("result", None),
        ("result", Some("--json")),
    ] {
        let url = format!("{url}/{path}");
        let mut arguments = vec!["rotate", "app", "--token", TOKEN, "--url", &url];
        arguments.extend(more);
        let repeated = run(&arguments).await;
        let shown = repeated.stdout + &repeated.stderr;
        assert!(shown.contains("Bearer ***"), "{path}: {shown}");
    }
}
