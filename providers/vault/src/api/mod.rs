//! Requests to the server, by vaultrs's client, and what comes back.

mod address;
mod call;
mod error;
mod http;
mod response;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use claviger::{ProviderError, quiet};
use reqwest::Client;
use rustify::Endpoint as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use vaultrs::api::EndpointMiddleware;

pub(crate) use call::Call;
use call::LateHandler;
pub(crate) use error::CallError;
use error::REPLICATION_DELAY;
pub(crate) use response::{Envelope, Grant, LoginResponse, TokenLookup};

use crate::bounded_file::{MAX_CA_FILE, read_bounded};
use crate::path::misconfigured;

/// How long after its time-out an answer that is not to be lost is waited for: a Vault whose
/// database hangs answers after 90 s.
const LATE_TIMEOUT: Duration = Duration::from_secs(120);

/// How an address is spoken to.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) namespace: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) timeout: Duration,
    /// Allows tokens and secrets to go unencrypted to another machine.
    pub(crate) plain_http: bool,
}

/// Shows the address only if it is one that can be used: another may contain a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = address::parse(&self.address).map_or_else(
            |_| "[not a valid address]".to_owned(),
            |url| address::shown(&url),
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

/// A server at its address. Without a token: each request brings its own.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    address: String,
    namespace: Option<String>,
    timeout: Duration,
}

impl Api {
    /// # Errors
    /// `Misconfigured`, naming the setting that cannot be right.
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
                "tokens and secrets would go unencrypted over the network; give an https address, or call `danger_plain_http()`",
            ));
        }
        let address = address::shown(&url);
        if namespace
            .as_deref()
            .is_some_and(|namespace| !is_header(namespace))
        {
            return Err(misconfigured(
                "namespace",
                "give its path in visible ASCII, as `team/orders`",
            ));
        }
        if timeout.is_zero() {
            return Err(misconfigured("timeout", "give more than nothing, as 10 s"));
        }
        let authorities = match &ca_file {
            None => None,
            Some(_) if url.scheme() == "http" => {
                return Err(misconfigured("ca_file", "there is nothing to verify at an http address; give an https one"));
            }
            Some(file) => Some(read_bounded(file, MAX_CA_FILE).map_err(|_| {
                misconfigured("ca_file", "give the path of a file of PEM certificates, of 1 MiB at most, that this process may read")
            })?),
        };
        let made = quiet::run(|| http::client(&url, authorities.as_deref()));
        let client = made.map_err(|error| match error {
            http::ClientError::Certificates => {
                misconfigured("ca_file", "what is in it is no PEM certificate")
            }
            http::ClientError::Client => misconfigured(
                "ca_file",
                "the system has no root certificates; name a file of them",
            ),
        })?;
        Ok(Self {
            client,
            address,
            namespace,
            timeout,
        })
    }

    /// The address, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Asks, with this token if any.
    pub(crate) async fn send(
        &self,
        token: Option<&str>,
        mut call: Call,
    ) -> Result<Response, CallError> {
        let middle = EndpointMiddleware {
            token: token.unwrap_or_default().to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: self.namespace.clone(),
        };
        let (client, address, late) = (self.client.clone(), self.address.clone(), call.late.take());
        let sending = async move {
            let request = call
                .with_middleware(&middle)
                .request(&address)
                .map_err(|_| CallError::InvalidResponse)?;
            let response = http::send(&client, request).await?;
            if response.status().is_success() {
                Ok(Response::from_http(response))
            } else {
                Err(CallError::from_response(response))
            }
        };
        // Nothing that is said meanwhile is heard: at TRACE there are secrets in it.
        let sending = quiet::during(sending);
        match late {
            None => timeout(self.timeout, sending)
                .await
                .map_err(|_| CallError::TimedOut)?,
            Some(late) => send_or_hand_over(late, self.timeout, sending).await,
        }
    }

    /// Like [`ask`](Self::ask), with a token that was issued a moment ago. After a 403 the request
    /// is sent once more, a second later: a standby may not have received the token yet.
    pub(crate) async fn send_with_new_token(
        &self,
        token: &str,
        call: impl Fn() -> Call + Send,
    ) -> Result<Response, CallError> {
        let first = call();
        let is_optional = first.is_optional();
        match self.send(Some(token), first).await {
            // What an optional request may be forbidden by is the policy.
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

/// Like a time-out, but what comes after it is handed to `late`.
async fn send_or_hand_over(
    late: LateHandler,
    limit: Duration,
    sending: impl Future<Output = Result<Response, CallError>> + Send + 'static,
) -> Result<Response, CallError> {
    let mut task = tokio::spawn(sending);
    match timeout(limit, &mut task).await {
        Ok(answer) => answer.unwrap_or(Err(CallError::InvalidResponse)),
        Err(_) => {
            tokio::spawn(async move {
                match timeout(LATE_TIMEOUT, &mut task).await {
                    Ok(Ok(Ok(answer))) => late(answer),
                    Ok(_) => {}
                    Err(_) => task.abort(),
                }
            });
            Err(CallError::TimedOut)
        }
    }
}

/// The body of an answer. Without `Debug`: there may be a secret in it.
pub(crate) struct Response(Vec<u8>);

impl Response {
    fn from_http(response: ::http::Response<Vec<u8>>) -> Self {
        Self(response.into_body())
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<Envelope<T>, CallError> {
        serde_json::from_slice(&self.0).map_err(|_| CallError::InvalidResponse)
    }
}

/// Whether this can be the value of a header: vaultrs panics where it cannot.
pub(crate) fn is_header(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())
}
