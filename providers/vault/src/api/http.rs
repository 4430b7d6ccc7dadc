//! One request and its response, over a client that takes the token nowhere else.

use std::path::Path;

use reqwest::redirect::{Attempt, Policy};
use reqwest::tls::Certificate;
use reqwest::{Client, ClientBuilder};
use url::Url;

use super::failure::Failure;
use crate::material::{MAX_CA_FILE, read_bounded};

/// How often a redirect within the server is followed.
const REDIRECTS: usize = 3;
/// The largest body that is read. A secret of Vault's has a megabyte at most.
const LARGEST_BODY: usize = 4 << 20;

/// Why no client could be made.
pub(super) enum Unmade {
    Certificates,
    Client,
}

/// A client for this address. It follows redirects to the very same scheme, host and port alone: the token is in a header, and a secret id in a body, and both would
/// go along. For an https address it speaks nothing else.
pub(super) fn client(address: &Url, ca_file: Option<&Path>) -> Result<Client, Unmade> {
    let origin = address.origin();
    let policy = Policy::custom(move |attempt: Attempt<'_>| {
        if attempt.url().origin() == origin && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
    });
    let mut builder = ClientBuilder::new().tls_backend_rustls().redirect(policy).https_only(address.scheme() == "https");
    if address.scheme() == "http" {
        // Nothing is to be verified there, and the system may have no certificates.
        builder = builder.tls_certs_only(Vec::new());
    } else if let Some(file) = ca_file {
        let pem = read_bounded(file, MAX_CA_FILE).map_err(|_| Unmade::Certificates)?;
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| Unmade::Certificates)?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|_| Unmade::Client)
}

/// Sends the request, and reads the response to its bound.
pub(super) async fn send(client: &Client, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, Failure> {
    let mut request = reqwest::Request::try_from(request).map_err(|_| Failure::Garbled)?;
    // Whatever shows headers shows this one as sensitive.
    if let Some(token) = request.headers_mut().get_mut("x-vault-token") {
        token.set_sensitive(true);
    }
    let mut response = client.execute(request).await.map_err(|error| Failure::of(&error))?;
    let mut whole = http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        whole = whole.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| Failure::of(&error))? {
        if body.len() + part.len() > LARGEST_BODY {
            return Err(Failure::Garbled);
        }
        body.extend_from_slice(&part);
    }
    whole.body(body).map_err(|_| Failure::Garbled)
}
