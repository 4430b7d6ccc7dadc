//! The user's own collector.

use crate::{Problem, with_causes};

use super::jaeger;

/// Path for spans in the specification of OTLP.
const TRACES: &str = "/v1/traces";
/// Default port of OTLP over gRPC.
const GRPC_PORT: u16 = 4_317;
/// Default port of Jaeger's API and pages.
const QUERY_PORT: u16 = 16_686;

/// Returns the URL for spans. The address is that of the collector, or the complete URL.
pub(super) fn endpoint(address: &str) -> String {
    let address = address.trim_end_matches('/');
    if address.ends_with(TRACES) {
        address.to_owned()
    } else {
        format!("{address}{TRACES}")
    }
}

/// Sends an empty request to check that a collector accepts spans.
pub(super) async fn check(endpoint: &str) -> Result<(), Problem> {
    let request = jaeger::client()?
        .post(endpoint)
        .header("content-type", "application/x-protobuf");
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            return Err(format!(
                "no collector responds: {}{}",
                with_causes(&error),
                hint(endpoint)
            )
            .into());
        }
    };
    let status = response.status();
    // Jaeger's pages respond to every request.
    let is_page = response
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    // A collector that requires authentication or is overloaded is a collector.
    if status.is_success() && !is_page || matches!(status.as_u16(), 401 | 403 | 429 | 500..) {
        return Ok(());
    }
    Err(format!(
        "{endpoint} accepts no traces ({status}); set the address of a collector's OTLP over HTTP, \
         such as http://localhost:4318"
    )
    .into())
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

/// Returns the address of a Jaeger on the collector's host, `http://host:16686`.
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
    fn an_address_may_be_complete() {
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

    /// Starts a server that responds to one request with this status. Returns its endpoint.
    async fn respond_once(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let read = stream.read(&mut [0; 4_096]).await.expect("a request");
            assert!(read > 0);
            let response =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream
                .write_all(response.as_bytes())
                .await
                .expect("it is read");
        });
        endpoint(&format!("http://{address}"))
    }

    #[tokio::test]
    async fn a_wrong_address_is_an_error_with_an_example() {
        let unused = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port")
            .local_addr()
            .expect("it is bound");
        let problem = check(&endpoint(&format!("http://{unused}")))
            .await
            .expect_err("no program listens")
            .to_string();
        assert!(
            problem.contains("no collector responds") && problem.contains(&unused.to_string()),
            "{problem}"
        );
        assert!(
            hint("http://localhost:4317/v1/traces").contains("4318")
                && hint("http://localhost:4318/v1/traces").is_empty()
        );
        let problem = check(&respond_once("404 Not Found").await)
            .await
            .expect_err("it is no collector")
            .to_string();
        assert!(
            problem.contains("/v1/traces accepts no traces (404 Not Found)")
                && problem.contains("http://localhost:4318"),
            "{problem}"
        );
        let page =
            check(&respond_once("200 OK\r\ncontent-type: text/html; charset=utf-8").await).await;
        assert!(page.is_err_and(|problem| problem.to_string().contains("accepts no traces")));
        for status in ["200 OK", "401 Unauthorized", "503 Service Unavailable"] {
            let response = check(&respond_once(status).await).await;
            assert!(response.is_ok(), "{status}");
        }
    }
}
