//! The HTTP client, which sends the token to no other server.

use reqwest::redirect::{Attempt, Policy};
use reqwest::tls::Certificate;
use reqwest::{Client, ClientBuilder};
use url::Url;

use super::address;
use super::error::CallError;
use crate::bounded_file::strip_bom;

/// Most redirects within the server that are followed.
const MAX_REDIRECTS: usize = 3;
/// Largest body that is read, in bytes. A secret in Vault has a megabyte at most.
const MAX_BODY: usize = 4 << 20;

/// Reason why no client could be built.
pub(super) enum ClientError {
    Certificates,
    Client,
}

/// Builds a client for this address. It follows redirects to the same scheme, host and port only,
/// because they carry the token and secrets. For an https address it uses https only. `authorities`
/// are PEM certificates, with comments in any encoding.
pub(super) fn client(address: &Url, authorities: Option<&[u8]>) -> Result<Client, ClientError> {
    let origin = address.origin();
    let policy = Policy::custom(move |attempt: Attempt<'_>| {
        if attempt.url().origin() == origin && attempt.previous().len() <= MAX_REDIRECTS {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    let mut builder = ClientBuilder::new()
        .tls_backend_rustls()
        .redirect(policy)
        .https_only(address.scheme() == "https");
    if address::is_loopback(address) {
        // A proxy would connect to its own machine, and read the token of a plain request.
        builder = builder.no_proxy();
    }
    if address.scheme() == "http" {
        // There is nothing to verify, and the system may have no certificates.
        builder = builder.tls_certs_only(Vec::new());
    } else if let Some(pem) = authorities {
        let certificates =
            Certificate::from_pem_bundle(strip_bom(pem)).map_err(|_| ClientError::Certificates)?;
        if certificates.is_empty() {
            return Err(ClientError::Certificates);
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|_| ClientError::Client)
}

/// Sends the request, and reads the response up to its bound.
pub(super) async fn send(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<http::Response<Vec<u8>>, CallError> {
    let mut request =
        reqwest::Request::try_from(request).map_err(|_| CallError::InvalidResponse)?;
    // Hides the header in Debug output.
    if let Some(token) = request.headers_mut().get_mut("x-vault-token") {
        token.set_sensitive(true);
    }
    let mut response = client
        .execute(request)
        .await
        .map_err(|error| CallError::from_reqwest(&error))?;
    let mut whole = http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        whole = whole.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| CallError::from_reqwest(&error))?
    {
        if body.len() + part.len() > MAX_BODY {
            return Err(CallError::InvalidResponse);
        }
        body.extend_from_slice(&part);
    }
    whole.body(body).map_err(|_| CallError::InvalidResponse)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_client_for_an_https_address_sends_nothing_over_http() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Url::parse(&format!("https://127.0.0.1:{port}")).unwrap();
        let client = client(&address, None).ok().unwrap();
        client
            .get(format!("http://127.0.0.1:{port}/v1/secret"))
            .timeout(Duration::from_secs(1))
            .send()
            .await
            .unwrap_err();
        assert!(listener.accept().is_err(), "nothing was connected");
    }
}
