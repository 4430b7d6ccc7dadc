//! The user's own collector, by the address that was given.

use crate::{Problem, with_causes};

use super::jaeger;

/// Where a collector takes spans, by the specification of OTLP.
const TRACES: &str = "/v1/traces";
/// Where collectors take OTLP over gRPC.
const GRPC_PORT: u16 = 4_317;
/// Where a Jaeger has its API and its pages.
const QUERY_PORT: u16 = 16_686;

/// Where the spans go. The address is that of the collector, or the whole of it.
pub(super) fn endpoint(address: &str) -> String {
    let address = address.trim_end_matches('/');
    if address.ends_with(TRACES) {
        address.to_owned()
    } else {
        format!("{address}{TRACES}")
    }
}

/// Sends no spans, once: whether anybody is there that would take some.
pub(super) async fn try_it(endpoint: &str) -> Result<(), Problem> {
    let request = jaeger::client()?
        .post(endpoint)
        .header("content-type", "application/x-protobuf");
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => {
            return Err(format!(
                "no collector answers: {}{}",
                with_causes(&error),
                hint(endpoint)
            )
            .into());
        }
    };
    let status = answer.status();
    // A Jaeger's pages answer to everything.
    let is_page = answer
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    // Whoever wants to know us first, or has much to do, is a collector all the same.
    if status.is_success() && !is_page || matches!(status.as_u16(), 401 | 403 | 429 | 500..) {
        return Ok(());
    }
    Err(format!("{endpoint} takes no traces ({status}); give the address of a collector's OTLP over HTTP, as http://localhost:4318").into())
}

/// Returns a hint on a wrong port, or nothing.
fn hint(endpoint: &str) -> &'static str {
    let port = reqwest::Url::parse(endpoint)
        .ok()
        .and_then(|url| url.port());
    if port == Some(GRPC_PORT) {
        "; 4317 is the port of OTLP over gRPC, 4318 that of OTLP over HTTP"
    } else {
        ""
    }
}

/// `http://host:16686` for a collector on the same host.
pub(super) fn query_address(collector: &str) -> Option<String> {
    let url = reqwest::Url::parse(collector).ok()?;
    Some(format!("http://{}:{QUERY_PORT}", url.host_str()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_address_of_a_collector_may_be_the_whole_of_it() {
        for address in [
            "http://host:4318",
            "http://host:4318/",
            "http://host:4318/v1/traces",
            "http://host:4318/v1/traces/",
        ] {
            assert_eq!(endpoint(address), "http://host:4318/v1/traces");
            assert_eq!(
                query_address(&endpoint(address)).as_deref(),
                Some("http://host:16686")
            );
        }
        assert_eq!(endpoint("https://host/otlp"), "https://host/otlp/v1/traces");
    }

    /// Answers one request so.
    async fn answering(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("it is asked");
            let read = stream.read(&mut [0; 4_096]).await.expect("a request");
            assert!(read > 0);
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream
                .write_all(answer.as_bytes())
                .await
                .expect("it is read");
        });
        endpoint(&format!("http://{address}"))
    }

    #[tokio::test]
    async fn a_wrong_address_is_told_and_what_would_be_right() {
        let nobody = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port")
            .local_addr()
            .expect("it is bound");
        let problem = try_it(&endpoint(&format!("http://{nobody}")))
            .await
            .expect_err("nobody listens")
            .to_string();
        assert!(
            problem.contains("no collector answers") && problem.contains(&nobody.to_string()),
            "{problem}"
        );
        assert!(
            hint("http://localhost:4317/v1/traces").contains("4318")
                && hint("http://localhost:4318/v1/traces").is_empty()
        );
        let problem = try_it(&answering("404 Not Found").await)
            .await
            .expect_err("it is none")
            .to_string();
        assert!(
            problem.contains("/v1/traces takes no traces (404 Not Found)")
                && problem.contains("http://localhost:4318"),
            "{problem}"
        );
        let page =
            try_it(&answering("200 OK\r\ncontent-type: text/html; charset=utf-8").await).await;
        assert!(page.is_err_and(|problem| problem.to_string().contains("takes no traces")));
        for status in ["200 OK", "401 Unauthorized", "503 Service Unavailable"] {
            let answer = try_it(&answering(status).await).await;
            assert!(answer.is_ok(), "{status}");
        }
    }
}
