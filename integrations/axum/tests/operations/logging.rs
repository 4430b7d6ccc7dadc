//! What is logged of operations.

use std::cell::RefCell;
use std::io;
use std::sync::Once;
use std::time::Duration;

use axum::http::StatusCode;

use super::{OTHER, Service, TOKEN, WRONG};

thread_local! {
    /// What this thread has logged. Each test has a thread of its own, and so have its tasks.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lines that this test logs, as text.
struct Lines;

impl Lines {
    /// Records with one subscriber for all tests: whether a line is logged is decided once.
    fn record() -> Self {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::TRACE)
                .with_writer(|| Self)
                .finish();
            tracing::subscriber::set_global_default(subscriber).expect("it is the only one");
        });
        Self
    }

    fn text(&self) -> String {
        LOGGED.with_borrow(|logged| String::from_utf8_lossy(logged).into_owned())
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_operation_is_logged_with_who_and_what_and_no_token() {
    let lines = Lines::record();
    let service = Service::start().await;
    service.rotate(TOKEN).await;
    service
        .post("/rotate", OTHER, r#"{"provider": "xyz"}"#)
        .await;
    for _ in 0..50 {
        service.rotate(WRONG).await;
    }
    let text = lines.text();
    let line = |message: &str| {
        let mut lines = text.lines();
        lines.find(|line| line.contains(message)).expect(message)
    };
    let done = line("an operator's request was carried out");
    for part in [
        "INFO",
        "operation=\"rotate\"",
        "name=\"orders-credentials\"",
        "by=\"on-call\"",
        "from=\"192.0.2.7:4711\"",
        "outcome=\"adopted\"",
    ] {
        assert!(done.contains(part), "{part}: {done}");
    }
    let failed = line("an operator's request failed");
    for part in [
        "WARN",
        "by=\"next\"",
        "status=404",
        "error_type=\"not_registered\"",
    ] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    let rejections = text.matches("an operation without a valid token was rejected");
    assert_eq!(rejections.count(), 10, "a flood is not logged");
    for token in [TOKEN, OTHER, WRONG] {
        assert!(!text.contains(token), "a token is logged");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_with_a_valid_token_is_not_logged() {
    let lines = Lines::record();
    let service = Service::start().await;
    let count = |text: &str| lines.text().matches(text).count();
    for token in [TOKEN, OTHER] {
        for _ in 0..100 {
            let unknown = service.post("/rotate", token, r#"{"provider": "xyz"}"#);
            unknown.await;
        }
    }
    assert_eq!(count("status=404"), 20, "each that was permitted is logged");
    assert_eq!(count("status=429"), 20, "the first ten of each token");
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        service.post("/rotate", TOKEN, "{}").await;
    }
    assert_eq!(count("status=429"), 21, "one a second");
    let text = lines.text();
    let last = text.lines().rfind(|line| line.contains("status=429"));
    let last = last.expect("it is logged");
    assert!(last.contains("by=\"on-call\""), "{last}");
    assert!(last.contains("unlogged=80"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_logged_when_it_begins_and_when_it_ends() {
    let lines = Lines::record();
    let service = Service::start().await;
    service.provider.stall();
    let client = tokio::time::timeout(Duration::from_secs(1), service.rotate(TOKEN)).await;
    assert!(client.is_err(), "the hazard: it has begun, and not ended");
    let text = lines.text();
    let mut begins = text.lines().filter(|line| line.contains("request begins"));
    let begins = begins.next().expect("it is logged");
    for part in [
        "INFO",
        "operation=\"rotate\"",
        "name=\"orders-credentials\"",
        "by=\"on-call\"",
    ] {
        assert!(begins.contains(part), "{part}: {begins}");
    }
    assert!(!text.contains("carried out"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_whose_logins_are_rejected_is_not_logged_as_carried_out() {
    let lines = Lines::record();
    let service = Service::start().await;
    service.database.accept_only(["password-1"]);
    let body = r#"{"provider": "orders-credentials"}"#;
    let reply = service.post("/rehearse", TOKEN, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(reply.body["outcome"], "not_verified");
    let text = lines.text();
    let mut ended = text
        .lines()
        .filter(|line| line.contains("ended without success"));
    let ended = ended.next().expect("it is logged");
    for part in ["WARN", "operation=\"rehearse\"", "outcome=\"not_verified\""] {
        assert!(ended.contains(part), "{part}: {ended}");
    }
    assert!(!text.contains("carried out"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_logged_in_part() {
    let lines = Lines::record();
    let service = Service::start().await;
    let body = format!(r#"{{"provider": "{OTHER}"}}"#);
    service.post("/rotate", TOKEN, &body).await;
    let text = lines.text();
    assert!(text.contains("name=\"fedcba98…\""), "{text}");
    assert!(!text.contains(OTHER), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_operation_continues_and_is_logged_if_the_client_leaves() {
    let lines = Lines::record();
    let service = Service::start().await;
    service.provider.stall();
    let client = tokio::time::timeout(Duration::from_secs(1), service.rotate(TOKEN)).await;
    assert!(client.is_err(), "the client leaves before the response");
    service.provider.resume();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let text = lines.text();
    assert!(
        text.contains("an operator's request was carried out"),
        "{text}"
    );
}
