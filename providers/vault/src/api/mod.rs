//! Requests to the server and its responses.

mod address;
mod call;
mod engine;
mod error;
mod explain;
mod http;
mod response;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger::error::ProviderError;
use claviger::quiet;
use reqwest::Client;
use rustify::Endpoint as _;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vaultrs::api::EndpointMiddleware;

pub(crate) use call::Call;
use call::LateHandler;
pub(crate) use error::CallError;
use error::REPLICATION_DELAY;
pub(crate) use response::{Envelope, Grant, LoginResponse, TokenLookup};

use crate::bounded_file::{MAX_CA_FILE, read_bounded};
use crate::path::misconfigured;

/// Time for which a response is awaited after the timeout. A Vault whose database hangs responds
/// after 90 s.
const LATE_TIMEOUT: Duration = Duration::from_secs(120);

/// Most requests with a late response. Each may create a user when the server resumes.
const LATE_MOST: usize = 3;

/// Settings of the connection to a server.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) namespace: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) timeout: Duration,
    /// Allows tokens and secrets to be sent unencrypted to another machine.
    pub(crate) plain_http: bool,
}

/// Shows the address only if it is valid, because an invalid one may contain a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = address::parse(&self.address).map_or_else(
            |_| "[not a valid address]".to_owned(),
            |url| address::format(&url),
        );
        f.debug_struct("Settings")
            .field("address", &address)
            .field("namespace", &self.namespace)
            .field("ca_file", &self.ca_file)
            .field("timeout", &self.timeout)
            .field("plain_http", &self.plain_http)
            .finish()
    }
}

/// Client of one server. Each request has its own token.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    address: String,
    namespace: Option<String>,
    timeout: Duration,
    late: Arc<Semaphore>,
}

impl Api {
    /// Makes the client. Sends no request.
    ///
    /// # Errors
    /// `Misconfigured`, naming the invalid setting.
    pub(crate) fn new(settings: Settings) -> Result<Self, ProviderError> {
        let Settings {
            address,
            namespace,
            ca_file,
            timeout,
            plain_http,
        } = settings;
        let url = address::parse(&address)?;
        if !plain_http && !address::is_private(&url) {
            return Err(misconfigured(
                "address",
                "tokens and secrets would be sent unencrypted over the network; set an https \
                address (in code, with_danger_plain_http() permits it)",
            ));
        }
        let address = address::format(&url);
        if namespace
            .as_deref()
            .is_some_and(|namespace| !is_header_value(namespace))
        {
            return Err(misconfigured(
                "namespace",
                "set its path in visible ASCII, as in \"team/orders\"",
            ));
        }
        if timeout.is_zero() {
            return Err(misconfigured("timeout", "set more than zero, such as 10 s"));
        }
        let authorities = match &ca_file {
            None => None,
            Some(_) if url.scheme() == "http" => {
                return Err(misconfigured(
                    "ca_file",
                    "an http address has no certificate to verify; set an https address",
                ));
            }
            Some(file) => Some(read_bounded(file, MAX_CA_FILE).map_err(|_| {
                misconfigured(
                    "ca_file",
                    "set the path of a file of PEM certificates, of 1 MiB at most, that this \
                    process may read",
                )
            })?),
        };
        let built = quiet::call_quietly(|| http::client(&url, authorities.as_deref()));
        let client = built.map_err(|error| match error {
            http::ClientError::Certificates => misconfigured(
                "ca_file",
                "it contains no PEM certificate; write one to the file",
            ),
            http::ClientError::Client => misconfigured(
                "ca_file",
                "the system has no root certificates; set a file of them",
            ),
        })?;
        Ok(Self {
            client,
            address,
            namespace,
            timeout,
            late: Arc::new(Semaphore::new(LATE_MOST)),
        })
    }

    /// Returns the address, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request, with this token if any.
    pub(crate) async fn send(
        &self,
        token: Option<&str>,
        mut call: Call,
    ) -> Result<Response, CallError> {
        let middleware = EndpointMiddleware {
            token: token.unwrap_or_default().to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: self.namespace.clone(),
        };
        let (client, address, late) = (self.client.clone(), self.address.clone(), call.late.take());
        let namespace = self.namespace.clone();
        let sending = async move {
            let request = call
                .with_middleware(&middleware)
                .request(&address)
                .map_err(|_| CallError::InvalidResponse)?;
            let response = http::send(&client, request).await?;
            if response.status().is_success() {
                Ok(Response::from_http(response))
            } else {
                Err(CallError::from_response(response, namespace))
            }
        };
        // Log lines of the HTTP client contain secrets at TRACE.
        let sending = quiet::await_quietly(sending);
        match late {
            None => timeout(self.timeout, sending)
                .await
                .map_err(|_| CallError::TimedOut)?,
            Some(late) => self.send_with_late_handler(late, sending).await,
        }
    }

    /// Sends a request that times out, but passes a late response to `late`.
    async fn send_with_late_handler(
        &self,
        late: LateHandler,
        sending: impl Future<Output = Result<Response, CallError>> + Send + 'static,
    ) -> Result<Response, CallError> {
        let permit = Arc::clone(&self.late).try_acquire_owned();
        let permit = permit.map_err(|_| CallError::TooManyLate)?;
        let mut task = tokio::spawn(sending);
        match timeout(self.timeout, &mut task).await {
            Ok(response) => response.unwrap_or(Err(CallError::InvalidResponse)),
            Err(_) => {
                tokio::spawn(async move {
                    match timeout(LATE_TIMEOUT, &mut task).await {
                        Ok(Ok(Ok(response))) => late(response),
                        Ok(_) => {}
                        Err(_) => task.abort(),
                    }
                    drop(permit);
                });
                Err(CallError::TimedOut)
            }
        }
    }

    /// Sends a request with a token that has just been issued. After a 403 it is sent once more, a
    /// second later, because a standby may not have received the token yet.
    pub(crate) async fn send_with_new_token(
        &self,
        token: &str,
        call: impl Fn() -> Call + Send,
    ) -> Result<Response, CallError> {
        let first = call();
        let is_optional = first.is_optional();
        match self.send(Some(token), first).await {
            // The policy may forbid an optional request.
            Err(failure)
                if failure.is_forbidden() && !(is_optional && failure.is_policy_denial()) =>
            {
                tokio::time::sleep(REPLICATION_DELAY).await;
                self.send(Some(token), call()).await
            }
            result => result,
        }
    }
}

/// Body of a response. Without `Debug`, because it may contain a secret.
pub(crate) struct Response(Vec<u8>);

impl Response {
    fn from_http(response: ::http::Response<Vec<u8>>) -> Self {
        Self(response.into_body())
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<Envelope<T>, CallError> {
        serde_json::from_slice(&self.0).map_err(|_| CallError::InvalidResponse)
    }
}

/// Returns whether the value is valid in a header. vaultrs panics if it is not.
pub(crate) fn is_header_value(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn no_fourth_request_is_sent_while_three_have_no_response() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api::new(Settings {
            address: format!("http://{}", listener.local_addr().unwrap()),
            namespace: None,
            ca_file: None,
            timeout: Duration::from_millis(100),
            plain_http: true,
        });
        let api = api.unwrap();
        let mut errors = Vec::new();
        for _ in 0..5 {
            let call = Call::get("database/creds/orders".to_owned()).when_late(|_| {});
            errors.push(api.send(None, call).await.err().unwrap());
        }
        let texts = errors
            .iter()
            .map(|error| error.explain("vault", "").to_string());
        let too_many = texts.filter(|text| text.contains("3 earlier requests"));
        assert_eq!(too_many.count(), 2);
        let mut connections = Vec::new();
        while let Ok(accepted) = timeout(Duration::from_millis(100), listener.accept()).await {
            connections.push(accepted.unwrap());
        }
        assert_eq!(connections.len(), 3);
        // The requests end, and leave room for others.
        drop((connections, listener));
        let room = timeout(Duration::from_secs(5), api.late.acquire_many(3));
        assert!(room.await.unwrap().is_ok());
    }
}
