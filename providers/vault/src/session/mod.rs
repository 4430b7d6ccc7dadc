//! One identity at one server: obtains, renews, replaces and revokes its token.

mod builder;
mod identity;
mod maintenance;
mod renewal;
mod token;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use claviger::error::ProviderError;
use claviger::lease::Timestamp;
use claviger::provider::{Clock, FailureLog};
use parking_lot::Mutex;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use builder::VaultSessionBuilder;
pub use identity::TokenIdentity;
pub(crate) use maintenance::LeaseBinding;
use token::InvalidTokens;
pub(crate) use token::Token;
pub(crate) use users::SessionUser;

use crate::api::{Api, Call, CallError, Envelope, Response};
use crate::auth::Auth;

/// One identity at one Vault or OpenBao server. Clones and all providers of a session share one
/// login and one token. The token is renewed while one of the providers is registered. A token from
/// a login is revoked when the last of them is removed.
///
/// The first request is sent when the first provider fetches.
///
/// | token | action |
/// |---|---|
/// | renewable | renewed after two thirds of its lifetime, less up to 10 %: of an hour, between minutes 34 and 40 |
/// | renewable, its last renewal limited by the maximum | a new login at once |
/// | not renewable, or a batch token | a new login after 60 % of its lifetime, less up to 10 % |
/// | periodic | renewed indefinitely |
/// | without an expiry | none |
/// | rejected by the server | a new login; in a token file, the next token |
/// | external, not renewable or at its maximum | used until it expires; in a file, the next token, polled every 2 s |
///
/// Leases expire with the token that created them, at the latest. After a new login, pools are
/// handed over to new leases while the old token stays valid until it expires.
///
/// A rejected login is retried once a minute, and at once when the file of its secret id or JWT
/// changes. Meanwhile the token is used until it expires, and the provider's status has the error.
///
/// A transient failure of a renewal or login is retried after 2 s, doubling to 60 s. The token is
/// used until it expires meanwhile.
///
/// ```no_run
/// use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
///
/// # fn session() -> Result<(), claviger::error::ProviderError> {
/// let auth = Auth::app_role("ROLE-ID", SecretId::file("/run/secrets/secret-id"));
/// let session = VaultSession::builder("https://vault.internal:8200", auth)
///     .with_ca_file("/etc/ssl/vault-ca.pem")
///     .build()?;
/// let provider = VaultDynamic::new(&session, "database", "orders")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct VaultSession(Arc<Inner>);

struct Inner {
    api: Api,
    auth: Auth,
    /// Clock of the supervisor that last used the session.
    clock: Mutex<Clock>,
    state: Mutex<State>,
    failures: FailureLog,
    /// Lock for obtaining, renewing or revoking the token.
    update_lock: Arc<tokio::sync::Mutex<()>>,
    /// The latest change of the token.
    changes: watch::Sender<TokenChange>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// Serial of the last token.
    serial: u64,
    /// Serial of the first token since the session has had users.
    first: Option<u64>,
    /// Tokens that were replaced while valid. Their leases may be in use.
    replaced: Vec<Arc<Token>>,
    /// Tokens that were revoked or found invalid. Their leases were revoked with them.
    invalid: InvalidTokens,
    users: usize,
    failed: Option<FailedAttempt>,
    /// Rejected content of the file: a token, or the secret of a login.
    rejected: Option<SecretString>,
}

/// A change of the token.
#[derive(Clone, Copy, Default)]
struct TokenChange {
    serial: u64,
    /// Whether there was another token before, whose leases may be in use.
    replaces: bool,
    /// Whether the last attempt before it had failed.
    recovered: bool,
}

/// A failed attempt to obtain or renew a token.
struct FailedAttempt {
    at: Instant,
    /// Number of failed attempts in a row.
    count: u32,
    error: ProviderError,
}

/// Cause of a failed request.
pub(crate) enum SessionError {
    /// There is no token.
    NoToken(ProviderError),
    /// The request failed.
    Call(CallError),
}

impl SessionError {
    pub(crate) fn explain(self, place: &str, grant: &str) -> ProviderError {
        match self {
            Self::NoToken(error) => error,
            Self::Call(failure) => failure.explain(place, grant),
        }
    }

    pub(crate) fn call_error(&self) -> Option<&CallError> {
        match self {
            Self::NoToken(_) => None,
            Self::Call(failure) => Some(failure),
        }
    }
}

impl VaultSession {
    /// Makes a session at this address, such as `https://vault.internal:8200`, with this identity.
    ///
    /// # Errors
    /// As [`VaultSessionBuilder::build`].
    pub fn new(address: impl Into<String>, auth: Auth) -> Result<Self, ProviderError> {
        Self::builder(address, auth).build()
    }

    /// Returns a builder for a session at this address with this identity.
    pub fn builder(address: impl Into<String>, auth: Auth) -> VaultSessionBuilder {
        VaultSessionBuilder::new(address.into(), auth)
    }

    fn from_parts(api: Api, auth: Auth) -> Self {
        let inner = Inner {
            api,
            auth,
            clock: Mutex::default(),
            state: Mutex::default(),
            failures: FailureLog::default(),
            update_lock: Arc::default(),
            changes: watch::Sender::default(),
        };
        Self(Arc::new(inner))
    }

    /// Sets the clock that is read from now on.
    pub(crate) fn set_clock(&self, clock: &Clock) {
        *self.0.clock.lock() = clock.clone();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Names the server and a path, for messages.
    pub(crate) fn place(&self, path: &str) -> String {
        format!("{}, {path}", self.0.api.address())
    }

    /// Sends a request with the session's token, and returns the response and that token. If the
    /// server reports the token as invalid, it is replaced and the request is sent once more.
    /// `fresh`: if half of the token's lifetime has passed, it is renewed or replaced first.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        fresh: bool,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<(Envelope<T>, Arc<Token>), SessionError> {
        let (response, token) = self.response(fresh, call).await?;
        let envelope = response.read().map_err(SessionError::Call)?;
        Ok((envelope, token))
    }

    /// Sends a request and drops the content of the response.
    pub(crate) async fn execute(
        &self,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<(), SessionError> {
        self.response(false, call).await.map(drop)
    }

    async fn response(
        &self,
        fresh: bool,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<(Response, Arc<Token>), SessionError> {
        let before = self.0.state.lock().serial;
        let token = self.token(fresh).await.map_err(SessionError::NoToken)?;
        let failure = match self.0.send(&token, &call).await {
            Ok(response) => return Ok((response, token)),
            Err(failure) => failure,
        };
        // A token that has just been issued is valid.
        if !failure.is_forbidden()
            || token.serial() > before
            || !self
                .0
                .is_token_invalid(&token, &failure)
                .await
                .map_err(SessionError::Call)?
        {
            return Err(SessionError::Call(failure));
        }
        tracing::warn!(
            vault = %self.0.api.address(),
            "token is no longer valid at the server; getting another"
        );
        self.0.invalidate(token.serial());
        let token = self.token(false).await.map_err(SessionError::NoToken)?;
        let response = self
            .0
            .send(&token, &call)
            .await
            .map_err(SessionError::Call)?;
        Ok((response, token))
    }

    /// Returns whether the leases of this token were revoked with it.
    pub(crate) fn is_invalidated(&self, serial: u64) -> bool {
        self.0.state.lock().invalid.contains(serial)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.clock.lock().now()
    }

    fn usable_token(&self, now: Timestamp) -> Option<Arc<Token>> {
        self.state
            .lock()
            .token
            .clone()
            .filter(|token| token.is_valid(now))
    }

    /// Sends a request with this token, and once more where a standby may not have received it yet.
    /// Nothing is concluded from a 403 before that.
    async fn send(
        &self,
        token: &Token,
        call: impl Fn() -> Call + Send,
    ) -> Result<Response, CallError> {
        if token.is_new(self.now()) {
            self.api.send_with_new_token(token.expose(), call).await
        } else {
            self.api.send(Some(token.expose()), call()).await
        }
    }

    /// Returns whether a 403 means that the token is invalid, not that it lacks the permission. If
    /// the error does not show which it is, the token is looked up.
    async fn is_token_invalid(
        &self,
        token: &Token,
        failure: &CallError,
    ) -> Result<bool, CallError> {
        if failure.is_invalid_token() || !token.is_valid(self.now()) {
            return Ok(true);
        }
        if failure.is_policy_denial() {
            return Ok(false);
        }
        match self.look_up(token.expose()).await {
            Ok(_) => Ok(false),
            Err(failure) if failure.is_forbidden() => Ok(!failure.is_policy_denial()),
            Err(failure) => Err(failure),
        }
    }

    /// Stops using a token that the server no longer accepts.
    fn invalidate(&self, serial: u64) {
        let mut state = self.state.lock();
        state.invalid.insert(serial);
        state.token.take_if(|token| token.serial() == serial);
    }

    fn place(&self, path: &str) -> String {
        format!("{}, {path}", self.api.address())
    }
}

impl fmt::Debug for VaultSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSession")
            .field("address", &self.0.api.address())
            .field("auth", &self.0.auth)
            .finish_non_exhaustive()
    }
}
