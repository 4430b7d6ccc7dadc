//! One identity at one server: its token is had, kept alive, replaced, and given back.

mod builder;
mod keep;
mod token;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use claviger::{Moment, ProviderError, ProviderErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use builder::Builder;
pub(crate) use token::Token;

use crate::api::{Answer, Api, Call, Envelope, Failure, TokenLook};
use crate::auth::Auth;
use crate::lifetime::Care;

/// After a failed attempt to get or to renew a token, whoever asks within this time is told the same.
const COOL_DOWN: Duration = Duration::from_secs(1);
/// The pauses between attempts to keep a token alive: the first doubles to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// One identity at one Vault or OpenBao server. Clones share it, and so do all providers made of it: one log-in, one token, kept alive while one of them is
/// registered, and revoked when the last of them is removed, where it came from a log-in.
///
/// Nothing is asked of the server before the first provider fetches.
///
/// | token | what is done |
/// |---|---|
/// | renewable | renewed after two thirds of its life, less up to 10 %: one of an hour between minutes 34 and 40 |
/// | renewable, its last renewal cut short by the maximum | a new log-in at once |
/// | not renewable, or a batch token | a new log-in after 60 % of its life, less up to 10 % |
/// | periodic | renewed for ever |
/// | without an end | nothing |
/// | refused by the server | a new log-in; in a token file, the next token |
///
/// Leases die with the token they were issued by. A lease is never taken to live longer than that, and after a new log-in pools move over to new leases while
/// the old token lives on to its own end.
///
/// A renewal or log-in that fails in a passing way is tried again after 2 s, doubling to 60 s; the token is used to its true end meanwhile.
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
    state: Mutex<State>,
    /// Held by whoever gets, renews or revokes a token.
    at_work: Arc<tokio::sync::Mutex<()>>,
    /// The serial of the token that is used.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// The last serial.
    serial: u64,
    /// Tokens replaced while they lived: leases of theirs may be in use.
    replaced: Vec<Arc<Token>>,
    /// Tokens that were revoked here, or found dead: their leases died with them.
    dead: HashSet<u64>,
    users: usize,
    failed: Option<Failed>,
}

/// The last attempt to get or to renew a token.
struct Failed {
    at: Instant,
    /// How many in a row.
    count: u32,
    error: ProviderError,
}

/// Why something that was asked with the session's token has no answer.
pub(crate) enum Trouble {
    /// There is no token.
    NoToken(ProviderError),
    /// There was one.
    Failed(Failure),
}

impl Trouble {
    pub(crate) fn explain(self, place: &str, grant: &str) -> ProviderError {
        match self {
            Self::NoToken(error) => error,
            Self::Failed(failure) => failure.explain(place, grant),
        }
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::NoToken(_) => None,
            Self::Failed(failure) => Some(failure),
        }
    }
}

impl VaultSession {
    /// A session with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(address: impl Into<String>, auth: Auth) -> Result<Self, ProviderError> {
        Self::builder(address, auth).build()
    }

    /// A session at this address, as `https://vault.internal:8200`, for this identity.
    pub fn builder(address: impl Into<String>, auth: Auth) -> Builder {
        Builder::new(address.into(), auth)
    }

    fn of(api: Api, auth: Auth) -> Self {
        let inner = Inner { api, auth, state: Mutex::default(), at_work: Arc::default(), changes: watch::Sender::new(0) };
        Self(Arc::new(inner))
    }

    /// The server and what is asked of it, for messages.
    pub(crate) fn place(&self, path: &str) -> String {
        format!("{}, {path}", self.0.api.address())
    }

    /// Asks with the session's token, and answers with that token, too. One that the server does not take any more is replaced, and it is asked again, once.
    /// `fresh`: a token of which half of its life has passed is renewed or replaced first.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        fresh: bool,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<(Envelope<T>, Arc<Token>), Trouble> {
        let (answer, token) = self.answer(fresh, call).await?;
        let envelope = answer.read().map_err(Trouble::Failed)?;
        Ok((envelope, token))
    }

    /// Like [`ask`](Self::ask), for what has no answer but its success.
    pub(crate) async fn tell(&self, call: impl Fn() -> Call + Send + Sync) -> Result<(), Trouble> {
        self.answer(false, call).await.map(drop)
    }

    async fn answer(&self, fresh: bool, call: impl Fn() -> Call + Send + Sync) -> Result<(Answer, Arc<Token>), Trouble> {
        let before = self.0.lock().serial;
        let token = self.token(fresh).await.map_err(Trouble::NoToken)?;
        let failure = match self.0.api.ask(Some(token.expose()), call()).await {
            Ok(answer) => return Ok((answer, token)),
            Err(failure) => failure,
        };
        // One that has just been issued is alive.
        if !failure.is_forbidden() || token.serial() > before || !self.is_dead(&token, &failure).await? {
            return Err(Trouble::Failed(failure));
        }
        tracing::warn!(vault = %self.0.api.address(), "the server does not take the token any more; getting another");
        self.0.bury(token.serial());
        let token = self.token(false).await.map_err(Trouble::NoToken)?;
        let answer = self.0.api.ask(Some(token.expose()), call()).await.map_err(Trouble::Failed)?;
        Ok((answer, token))
    }

    /// Whether a token that was refused is dead; or else it may not do what was asked. Only Vault says which; OpenBao is asked whether it knows the token.
    async fn is_dead(&self, token: &Token, failure: &Failure) -> Result<bool, Trouble> {
        if failure.is_dead_token() || !token.is_alive(Moment::now()) {
            return Ok(true);
        }
        match self.0.look_up(token.expose()).await {
            Ok(_) => Ok(false),
            Err(failure) if failure.is_forbidden() => Ok(true),
            Err(failure) => Err(Trouble::Failed(failure)),
        }
    }

    /// The token to use now.
    pub(crate) async fn token(&self, fresh: bool) -> Result<Arc<Token>, ProviderError> {
        let now = Moment::now();
        let usable = self.0.usable(now);
        if let Some(token) = usable.as_ref().filter(|token| !fresh || !token.is_stale(now)) {
            return Ok(Arc::clone(token));
        }
        let work = self.work(move |state, now| match &state.token {
            Some(token) if token.is_alive(now) => fresh && token.is_stale(now),
            _ => true,
        });
        match (work.await, usable) {
            (Err(_), Some(token)) if token.is_alive(Moment::now()) => Ok(token),
            (worked, _) => worked,
        }
    }

    /// Gets, renews or replaces the token if that is `due` once nobody else is at it. In a task of its own: a token whose arrival nobody awaits any more would be lost
    /// and live on.
    async fn work(&self, due: impl FnOnce(&State, Moment) -> bool + Send + 'static) -> Result<Arc<Token>, ProviderError> {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let _at_work = Arc::clone(&inner.at_work).lock_owned().await;
            let now = Moment::now();
            {
                let state = inner.lock();
                if !due(&state, now) {
                    return state.token.clone().ok_or_else(closed);
                }
                let recent = state.failed.as_ref().filter(|failed| now.mono().saturating_duration_since(failed.at) < COOL_DOWN);
                if let Some(failed) = recent {
                    return Err(failed.error.clone());
                }
            }
            let result = inner.attend(now).await;
            inner.note(&result);
            result
        });
        task.await.unwrap_or_else(|_| Err(ProviderError::new(ProviderErrorKind::Panicked, "a log-in to Vault panicked")))
    }

    /// A provider of this session is in use.
    pub(crate) fn member(&self) -> Member {
        Member { session: self.clone(), joined: AtomicBool::new(false) }
    }

    /// Whether what was issued by this token has died with it.
    pub(crate) fn is_buried(&self, serial: u64) -> bool {
        self.0.lock().dead.contains(&serial)
    }
}

fn closed() -> ProviderError {
    ProviderError::new(ProviderErrorKind::Other, "no provider of this session is in use any more")
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self, now: Moment) -> Option<Arc<Token>> {
        self.lock().token.clone().filter(|token| token.is_alive(now))
    }

    /// The token is not used any more: the server does not know it.
    fn bury(&self, serial: u64) {
        let mut state = self.lock();
        state.dead.insert(serial);
        state.token.take_if(|token| token.serial() == serial);
    }

    fn note(&self, result: &Result<Arc<Token>, ProviderError>) {
        let mut state = self.lock();
        match result {
            Ok(_) => state.failed = None,
            Err(error) => {
                let count = state.failed.as_ref().map_or(0, |failed| failed.count) + 1;
                // Three times, then quietly.
                if count <= 3 {
                    tracing::warn!(vault = %self.api.address(), error = %error, "no token, or none that is new; what is had is used to its end");
                } else {
                    tracing::debug!(vault = %self.api.address(), error = %error, "still no new token");
                }
                state.failed = Some(Failed { at: Moment::now().mono(), count, error: error.clone() });
            }
        }
    }

    /// Does what the token needs: the first one, a renewal, another one.
    async fn attend(&self, now: Moment) -> Result<Arc<Token>, ProviderError> {
        let current = self.usable(now);
        if let Some(token) = &current
            && matches!(token.care(), Some((_, Care::Renew)))
        {
            match self.renew(token).await {
                Ok(renewed) if !matches!(renewed.care(), Some((_, Care::Replace))) => return Ok(renewed),
                // Met its maximum.
                Ok(renewed) if !self.auth.can_log_in() => return Ok(renewed),
                Ok(_) => {}
                Err(failure) if failure.is_forbidden() => self.bury(token.serial()),
                // What is no refusal passes: the server is down or sealed. A renewal past the maximum is a fault of the server's own.
                Err(failure) if failure.is_refusal() || failure.status() == Some(500) => {}
                Err(failure) => return Err(failure.explain(&self.place("auth/token/renew-self"), GRANT_RENEW)),
            }
        }
        match self.auth.foreign_token() {
            None => self.log_in().await,
            Some(material) => {
                let secret = material.read().await?;
                let known = self.usable(now).filter(|token| token.expose() == secret.expose_secret());
                self.take(secret, known.as_deref()).await
            }
        }
    }

    async fn renew(&self, token: &Token) -> Result<Arc<Token>, Failure> {
        let asked = Moment::now();
        let answer = self.api.ask(Some(token.expose()), Call::post("auth/token/renew-self", json!({}))).await?.read::<Value>()?;
        let grant = answer.auth.ok_or(Failure::Garbled)?.grant();
        Ok(self.hold(Arc::new(token.renewed(asked, grant, self.is_watched()))))
    }

    async fn log_in(&self) -> Result<Arc<Token>, ProviderError> {
        let asked = Moment::now();
        let log_in = self.auth.log_in(&self.api).await?;
        let grant = log_in.grant();
        Ok(self.hold(Arc::new(Token::new(log_in.into_token(), self.next_serial(), asked, grant, true, false))))
    }

    /// Somebody else's token: `known` when it is the one that is used already.
    async fn take(&self, secret: SecretString, known: Option<&Token>) -> Result<Arc<Token>, ProviderError> {
        let asked = Moment::now();
        let grant = match self.look_up(secret.expose_secret()).await {
            Ok(look) => look.grant(),
            Err(failure) if failure.is_forbidden() => return Err(self.refused_token()),
            Err(failure) => return Err(failure.explain(&self.place("auth/token/lookup-self"), "grant `read` on auth/token/lookup-self")),
        };
        let token = match known {
            Some(token) => token.renewed(asked, grant, self.is_watched()),
            None => Token::new(secret, self.next_serial(), asked, grant, false, self.is_watched()),
        };
        Ok(self.hold(Arc::new(token)))
    }

    fn refused_token(&self) -> ProviderError {
        let place = self.place("auth/token/lookup-self");
        if self.is_watched() {
            let problem = "the token in the file is dead; see to what writes it. The file is read again when it changes";
            ProviderError::new(ProviderErrorKind::Unavailable, format!("{place}: {problem}"))
        } else {
            let problem = "the token is dead, or may not look at itself; give another, or grant `read` on auth/token/lookup-self";
            ProviderError::new(ProviderErrorKind::Denied, format!("{place}: {problem}"))
        }
    }

    async fn look_up(&self, token: &str) -> Result<TokenLook, Failure> {
        self.api.ask(Some(token), Call::get("auth/token/lookup-self")).await?.read::<TokenLook>()?.data.ok_or(Failure::Garbled)
    }

    /// Uses this token from now on. One that it replaces may have leases in use.
    fn hold(&self, token: Arc<Token>) -> Arc<Token> {
        let now = Moment::now();
        {
            let mut state = self.lock();
            state.replaced.retain(|token| token.is_alive(now));
            let before = state.token.replace(Arc::clone(&token));
            state.replaced.extend(before.filter(|before| before.serial() != token.serial() && before.is_own() && before.is_alive(now)));
        }
        self.changes.send_if_modified(|serial| std::mem::replace(serial, token.serial()) != token.serial());
        token
    }

    fn next_serial(&self) -> u64 {
        let mut state = self.lock();
        state.serial += 1;
        state.serial
    }

    /// Whether the token lies in a file.
    fn is_watched(&self) -> bool {
        self.auth.foreign_token().is_some_and(|material| material.is_file())
    }

    fn place(&self, path: &str) -> String {
        format!("{}, {path}", self.api.address())
    }

    /// Revokes what is the session's own, and forgets the rest.
    async fn give_back(&self) {
        let _at_work = self.at_work.lock().await;
        let now = Moment::now();
        let tokens: Vec<_> = {
            let mut state = self.lock();
            if state.users > 0 {
                return;
            }
            state.failed = None;
            let replaced = std::mem::take(&mut state.replaced);
            state.token.take().into_iter().chain(replaced).filter(|token| token.is_to_be_revoked(now)).collect()
        };
        for token in tokens {
            // All leases of the token are revoked with it.
            match self.api.ask(Some(token.expose()), Call::post("auth/token/revoke-self", json!({}))).await {
                Ok(_) => {
                    self.lock().dead.insert(token.serial());
                }
                Err(failure) => {
                    let error = failure.explain(&self.place("auth/token/revoke-self"), "grant `update` on auth/token/revoke-self");
                    tracing::warn!(error = %error, "the session's token was not revoked; it lives on to its end");
                }
            }
        }
    }
}

const GRANT_RENEW: &str = "grant `update` on auth/token/renew-self";

/// A provider's part in the session: from its first fetch to its `close`.
pub(crate) struct Member {
    session: VaultSession,
    joined: AtomicBool,
}

impl Member {
    pub(crate) fn join(&self) {
        if !self.joined.swap(true, Ordering::AcqRel) {
            self.session.0.lock().users += 1;
        }
    }

    /// The last one turns off the light.
    pub(crate) async fn leave(&self) {
        if self.joined.swap(false, Ordering::AcqRel) {
            self.session.0.lock().users -= 1;
            self.session.0.give_back().await;
        }
    }
}

impl fmt::Debug for VaultSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSession").field("address", &self.0.api.address()).field("auth", &self.0.auth).finish_non_exhaustive()
    }
}
