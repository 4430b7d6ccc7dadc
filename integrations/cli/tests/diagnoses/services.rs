//! Requests to the operators' port of a running service.

use claviger::{Credentials, PgPools, Supervisor, static_credentials};
use claviger_servers::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::common::{Run, SECRET, Setup};

/// Runs the command beside the service.
async fn run(arguments: &[&str]) -> Run {
    let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
    let run = spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Setup::new().run("", &arguments)
    });
    run.await.expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_running_service_is_shown() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let supervisor = Supervisor::start();
    let provider = static_credentials(Credentials::new("app", SECRET));
    let provider = supervisor.add_provider("app-credentials", provider).await;
    let options = PgConnectOptions::new_without_pgpass()
        .host(server.host())
        .port(server.port())
        .database("postgres");
    let pools = PgPools::new(options, PgPoolOptions::new().max_connections(7));
    let db = supervisor
        .add_pool("orders", &provider.expect("a provider"), pools)
        .await;
    let db = db.expect("a pool");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = claviger_axum::status(&supervisor);
    let service = tokio::spawn(async move { axum::serve(listener, router).await });

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
