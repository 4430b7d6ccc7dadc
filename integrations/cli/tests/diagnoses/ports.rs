//! Ports of servers of another kind than the pool's.

use claviger_servers::{MariaDb, Redis};

use crate::common::{SECRET, Setup, pool};

/// Asserts the cause of pools at this port: settings, step, cause, and a word of the finding.
fn assert_causes(port: u16, cases: &[(&str, &str, &str, &str)]) {
    let setup = Setup::new();
    for (more, step, cause, word) in cases {
        let diagnosis = setup.doctor(&pool(&setup, port, more), &[]);
        diagnosis.assert_cause(step, cause);
        let finding = diagnosis.finding(step).to_string();
        assert!(finding.contains(word), "{more}: {finding}");
        assert!(!finding.contains("balancer without"), "{more}: {finding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_http_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let service = tokio::spawn(async move {
        let served = axum::serve(listener, axum::Router::new()).await;
        served.expect("it serves");
    });
    let http = "HTTP/1.1 400";
    let causes = tokio::task::spawn_blocking(move || {
        assert_causes(
            port,
            &[
                ("ssl_mode = \"disable\"", "login", "other_protocol", http),
                ("ssl_mode = \"prefer\"", "tls", "other_protocol", http),
                ("kind = \"redis\"", "login", "other_protocol", http),
                (
                    "kind = \"redis\"\nssl_mode = \"verify-full\"",
                    "tls",
                    "other_protocol",
                    "respond with TLS",
                ),
            ],
        );
    });
    causes.await.expect("the causes are named");
    service.abort();
}

#[test]
fn a_port_of_mysql_is_named() {
    let server = MariaDb::start().expect("a server");
    let mysql = "greeting of MySQL";
    assert_causes(
        server.port(),
        &[
            ("ssl_mode = \"disable\"", "login", "other_protocol", mysql),
            ("ssl_mode = \"prefer\"", "tls", "other_protocol", mysql),
            ("kind = \"redis\"", "login", "other_protocol", mysql),
        ],
    );
}

/// As HTTPS, or a proxy that ends TLS.
#[test]
fn a_port_that_expects_tls_from_the_first_byte_is_named() {
    let server = Redis::builder().tls().start().expect("a server");
    server.set_user("app", SECRET).expect("a user");
    let (cause, word) = ("server_expects_tls", "from the first byte");
    assert_causes(
        server.port(),
        &[
            ("ssl_mode = \"disable\"", "tls", cause, word),
            ("ssl_mode = \"prefer\"", "tls", cause, word),
            (
                "kind = \"mysql\"\nssl_mode = \"disable\"",
                "tls",
                cause,
                word,
            ),
        ],
    );
}
