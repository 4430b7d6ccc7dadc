//! One identity at one server: its token is had, kept alive, replaced, and given back.

mod builder;
mod maintenance;
mod renewal;
mod token;
mod users;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use claviger::{Clock, ProviderError, Timestamp};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use builder::VaultSessionBuilder;
pub(crate) use maintenance::LeaseBinding;
use token::InvalidTokens;
pub(crate) use token::Token;
pub(crate) use users::SessionUser;

use crate::api::{Api, Call, CallError, Envelope, Response};
use crate::auth::Auth;

/// One identity at one Vault or OpenBao server. Clones share it, and so do all providers made of
/// it: one login, one token, kept alive while one of them is registered, and revoked when the last
/// of them is removed, where it came from a login.
///
/// Nothing is asked of the server before the first provider fetches.
///
/// | token | what is done |
/// |---|---|
/// | renewable | renewed after two thirds of its life, less up to 10 %: one of an hour between minutes 34 and 40 |
/// | renewable, its last renewal cut short by the maximum | a new login at once |
/// | not renewable, or a batch token | a new login after 60 % of its life, less up to 10 % |
/// | periodic | renewed for ever |
/// | without an end | nothing |
/// | rejected by the server | a new login; in a token file, the next token |
/// | somebody else's, not renewable or at its maximum | used to its end; in a file, the next token, looked for every 2 s |
///
/// Leases die with the token they were issued by. A lease is never taken to live longer than that,
/// and after a new login pools move over to new leases while the old token lives on to its own end.
///
/// A login that is rejected is tried again each minute, and at once when something else lies in the
/// file of its secret id or JWT. Meanwhile the token is used to its end, and whoever has leases of
/// it is told by the provider's status.
///
/// A renewal or login that fails in a passing way is tried again after 2 s, doubling to 60 s; the
/// token is used to its true end meanwhile.
///
/// ```no_run
/// use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
///
/// # fn session() -> Result<(), claviger::ProviderError> {
/// let session = VaultSession::builder("https://vault.internal:8200", Auth::app_role("ROLE-ID", SecretId::file("/run/secrets/secret-id")))
///     .ca_file("/etc/ssl/vault-ca.pem")
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
    /// That of the supervisor that last used the session.
    clock: Mutex<Clock>,
    state: Mutex<State>,
    /// Held by whoever gets, renews or revokes a token.
    update_lock: Arc<tokio::sync::Mutex<()>>,
    /// The token that is used now.
    changes: watch::Sender<Change>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// The last serial.
    serial: u64,
    /// First serial since the session is in use.
    first: Option<u64>,
    /// Tokens replaced while they lived: leases of theirs may be in use.
    replaced: Vec<Arc<Token>>,
    /// Tokens that were revoked here, or found dead: their leases died with them.
    invalid: InvalidTokens,
    users: usize,
    failed: Option<FailedAttempt>,
    /// What lay in the file, of a token or for a login, and was rejected.
    rejected: Option<SecretString>,
}

/// Another token is used than before.
#[derive(Clone, Copy, Default)]
struct Change {
    serial: u64,
    /// Set if there was another token before, whose leases may be in use.
    replaces: bool,
    /// There was none to be had meanwhile.
    recovered: bool,
}

/// The last attempt to get or to renew a token.
struct FailedAttempt {
    at: Instant,
    /// How many in a row.
    count: u32,
    error: ProviderError,
}

/// Why something that was asked with the session's token has no answer.
pub(crate) enum SessionError {
    /// There is no token.
    NoToken(ProviderError),
    /// There was one.
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
    /// A session with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    /// As [`VaultSessionBuilder::build`].
    pub fn new(address: impl Into<String>, auth: Auth) -> Result<Self, ProviderError> {
        Self::builder(address, auth).build()
    }

    /// A session at this address, as `https://vault.internal:8200`, for this identity.
    pub fn builder(address: impl Into<String>, auth: Auth) -> VaultSessionBuilder {
        VaultSessionBuilder::new(address.into(), auth)
    }

    fn from_parts(api: Api, auth: Auth) -> Self {
        let inner = Inner {
            api,
            auth,
            clock: Mutex::default(),
            state: Mutex::default(),
            update_lock: Arc::default(),
            changes: watch::Sender::default(),
        };
        Self(Arc::new(inner))
    }

    /// Reads time from this clock from now on.
    pub(crate) fn set_clock(&self, clock: &Clock) {
        *self.0.clock() = clock.clone();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// The server and what is asked of it, for messages.
    pub(crate) fn place(&self, path: &str) -> String {
        format!("{}, {path}", self.0.api.address())
    }

    /// Asks with the session's token, and answers with that token, too. One that the server does
    /// not take any more is replaced, and it is asked again, once. `fresh`: a token of which half
    /// of its life has passed is renewed or replaced first.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        fresh: bool,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<(Envelope<T>, Arc<Token>), SessionError> {
        let (answer, token) = self.answer(fresh, call).await?;
        let envelope = answer.read().map_err(SessionError::Call)?;
        Ok((envelope, token))
    }

    /// Like [`ask`](Self::ask), for what has no answer but its success.
    pub(crate) async fn execute(
        &self,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<(), SessionError> {
        self.answer(false, call).await.map(drop)
    }

    async fn answer(
        &self,
        fresh: bool,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<(Response, Arc<Token>), SessionError> {
        let before = self.0.lock().serial;
        let token = self.token(fresh).await.map_err(SessionError::NoToken)?;
        let failure = match self.0.send(&token, &call).await {
            Ok(answer) => return Ok((answer, token)),
            Err(failure) => failure,
        };
        // One that has just been issued is alive.
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
        tracing::warn!(vault = %self.0.api.address(), "the server does not take the token any more; getting another");
        self.0.invalidate(token.serial());
        let token = self.token(false).await.map_err(SessionError::NoToken)?;
        let answer = self
            .0
            .send(&token, &call)
            .await
            .map_err(SessionError::Call)?;
        Ok((answer, token))
    }

    /// Whether what was issued by this token has died with it.
    pub(crate) fn is_invalidated(&self, serial: u64) -> bool {
        self.0.lock().invalid.contains(serial)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock().now()
    }

    fn usable(&self, now: Timestamp) -> Option<Arc<Token>> {
        self.lock()
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

    /// Whether a token that was rejected is dead; or else it may not do what was asked. Where the
    /// server's words do not tell, it is asked whether it knows the token.
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

    /// The token is not used any more: the server does not know it.
    fn invalidate(&self, serial: u64) {
        let mut state = self.lock();
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
