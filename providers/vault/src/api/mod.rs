//! Requests to the server, by vaultrs's client, and what comes back.

mod address;
mod call;
mod failure;
mod http;
mod reply;

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
use call::Late;
use failure::CATCHES_UP;
pub(crate) use failure::Failure;
pub(crate) use reply::{Envelope, Grant, LogIn, TokenLook};

use crate::material::{MAX_CA_FILE, read_bounded};
use crate::path::misconfigured;

/// How long after its time-out an answer that is not to be lost is waited for: a Vault whose
/// database hangs answers after 90 s.
const LATEST: Duration = Duration::from_secs(120);

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
    pub(crate) async fn ask(&self, token: Option<&str>, mut call: Call) -> Result<Answer, Failure> {
        let middle = EndpointMiddleware {
            token: token.unwrap_or_default().to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: self.namespace.clone(),
        };
        let (client, address, late) = (self.client.clone(), self.address.clone(), call.late.take());
        let asking = async move {
            let request = call
                .with_middleware(&middle)
                .request(&address)
                .map_err(|_| Failure::Garbled)?;
            let response = http::send(&client, request).await?;
            if response.status().is_success() {
                Ok(Answer::of(response))
            } else {
                Err(Failure::answered(response))
            }
        };
        // Nothing that is said meanwhile is heard: at TRACE there are secrets in it.
        let asking = quiet::during(asking);
        match late {
            None => timeout(self.timeout, asking)
                .await
                .map_err(|_| Failure::TimedOut)?,
            Some(late) => in_time_or(late, self.timeout, asking).await,
        }
    }

    /// Like [`ask`](Self::ask), with a token that was issued a moment ago. After a 403 the request
    /// is sent once more, a second later: a standby may not have received the token yet.
    pub(crate) async fn ask_with_new(
        &self,
        token: &str,
        call: impl Fn() -> Call + Send,
    ) -> Result<Answer, Failure> {
        let first = call();
        let is_optional = first.is_optional();
        match self.ask(Some(token), first).await {
            // What an optional request may be forbidden by is the policy.
            Err(failure) if failure.is_forbidden() && !(is_optional && failure.is_by_policy()) => {
                tokio::time::sleep(CATCHES_UP).await;
                self.ask(Some(token), call()).await
            }
            result => result,
        }
    }
}

/// Like a time-out, but what comes after it is handed to `late`.
async fn in_time_or(
    late: Late,
    limit: Duration,
    asking: impl Future<Output = Result<Answer, Failure>> + Send + 'static,
) -> Result<Answer, Failure> {
    let mut task = tokio::spawn(asking);
    match timeout(limit, &mut task).await {
        Ok(answer) => answer.unwrap_or(Err(Failure::Garbled)),
        Err(_) => {
            tokio::spawn(async move {
                match timeout(LATEST, &mut task).await {
                    Ok(Ok(Ok(answer))) => late(answer),
                    Ok(_) => {}
                    Err(_) => task.abort(),
                }
            });
            Err(Failure::TimedOut)
        }
    }
}

/// The body of an answer. Without `Debug`: there may be a secret in it.
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    fn of(response: ::http::Response<Vec<u8>>) -> Self {
        Self(response.into_body())
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<Envelope<T>, Failure> {
        serde_json::from_slice(&self.0).map_err(|_| Failure::Garbled)
    }
}

/// Whether this can be the value of a header: vaultrs panics where it cannot.
pub(crate) fn is_header(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())
}
