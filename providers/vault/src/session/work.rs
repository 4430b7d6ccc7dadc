//! Getting the token, renewing it, and putting another in its place.

use std::sync::Arc;
use std::time::Duration;

use claviger::{ProviderError, ProviderErrorKind, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Change, Failed, Inner, State, Token, VaultSession};
use crate::api::{Answer, Call, Failure, TokenLook};
use crate::auth::Material;
use crate::lifetime::{Care, Source};

/// After a failed attempt to get or to renew a token, whoever asks within this time is told the
/// same.
const COOL_DOWN: Duration = Duration::from_secs(1);
const GRANT_RENEW: &str = "grant `update` on auth/token/renew-self";

impl VaultSession {
    /// The token to use now.
    pub(crate) async fn token(&self, fresh: bool) -> Result<Arc<Token>, ProviderError> {
        let now = self.now();
        let usable = self.0.usable(now);
        if let Some(token) = usable
            .as_ref()
            .filter(|token| !fresh || !token.is_stale(now))
        {
            return Ok(Arc::clone(token));
        }
        let work = self.work(move |state, now| match &state.token {
            Some(token) if token.is_alive(now) => fresh && token.is_stale(now),
            _ => true,
        });
        match (work.await, usable) {
            (Err(_), Some(token)) if token.is_alive(self.now()) => Ok(token),
            (worked, _) => worked,
        }
    }

    /// Why the last attempt to get or to renew a token failed, if it did.
    pub(crate) fn trouble(&self) -> Option<ProviderError> {
        self.0
            .lock()
            .failed
            .as_ref()
            .map(|failed| failed.error.clone())
    }

    /// Gets, renews or replaces the token if that is `due` once nobody else is at it. In a task of
    /// its own: a token whose arrival nobody awaits any more would be lost and live on.
    pub(super) async fn work(
        &self,
        due: impl FnOnce(&State, Timestamp) -> bool + Send + 'static,
    ) -> Result<Arc<Token>, ProviderError> {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let _at_work = Arc::clone(&inner.at_work).lock_owned().await;
            let now = inner.now();
            {
                let state = inner.lock();
                if !due(&state, now) {
                    return state.token.clone().ok_or_else(closed);
                }
                // A fetch that ends when the last provider has left is not to bring a token that
                // nobody would revoke.
                if state.users == 0 && inner.auth.can_log_in() {
                    return Err(closed());
                }
                let recent = state
                    .failed
                    .as_ref()
                    .filter(|failed| now.mono().saturating_duration_since(failed.at) < COOL_DOWN);
                if let Some(failed) = recent {
                    return Err(failed.error.clone());
                }
            }
            let result = inner.attend(now).await;
            inner.note(&result);
            result
        });
        task.await.unwrap_or_else(|_| {
            Err(ProviderError::new(
                ProviderErrorKind::Panicked,
                "a login to Vault panicked",
            ))
        })
    }
}

/// A missing right to it is an answer as well.
fn look_up_self() -> Call {
    Call::get("auth/token/lookup-self").optional()
}

fn token_look(answer: Answer) -> Result<TokenLook, Failure> {
    answer.read::<TokenLook>()?.data.ok_or(Failure::Garbled)
}

fn closed() -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Other,
        "no provider of this session is in use any more",
    )
}

impl Inner {
    fn note(&self, result: &Result<Arc<Token>, ProviderError>) {
        let mut state = self.lock();
        match result {
            Ok(_) => state.failed = None,
            Err(error) => {
                let count = state
                    .failed
                    .as_ref()
                    .map_or(0, |failed| failed.count)
                    .saturating_add(1);
                // Three times, then quietly.
                if count <= 3 {
                    tracing::warn!(vault = %self.api.address(), error = %error, "no token, or none that is new; what is had is used to its end");
                } else {
                    tracing::debug!(vault = %self.api.address(), error = %error, "still no new token");
                }
                state.failed = Some(Failed {
                    at: self.now().mono(),
                    count,
                    error: error.clone(),
                });
            }
        }
    }

    /// Does what the token needs: the first one, a renewal, another one.
    async fn attend(&self, now: Timestamp) -> Result<Arc<Token>, ProviderError> {
        let current = self.usable(now);
        match self.auth.foreign_token() {
            None => self.attend_own(current).await,
            Some(material) => self.attend_foreign(material, current).await,
        }
    }

    async fn attend_own(&self, current: Option<Arc<Token>>) -> Result<Arc<Token>, ProviderError> {
        if let Some(token) = current.filter(|token| matches!(token.care(), Some((_, Care::Renew))))
        {
            match self.renew(&token).await {
                // Else it has met its maximum.
                Ok(renewed) if !matches!(renewed.care(), Some((_, Care::Replace))) => {
                    return Ok(renewed);
                }
                Ok(_) => {}
                Err(failure) => self.pass_over(&token, failure).await?,
            }
        }
        self.log_in().await
    }

    /// Another token in the file goes before the one that is used, however well that is.
    async fn attend_foreign(
        &self,
        material: &Material,
        current: Option<Arc<Token>>,
    ) -> Result<Arc<Token>, ProviderError> {
        let secret = match (material.read().await, &current) {
            (Ok(secret), _) => secret,
            // A file that cannot be read says nothing of the token.
            (Err(_), Some(token)) => SecretString::from(token.expose()),
            (Err(error), None) => return Err(error),
        };
        let known = current.filter(|token| token.expose() == secret.expose_secret());
        if let Some(token) = known
            .as_ref()
            .filter(|token| matches!(token.care(), Some((_, Care::Renew))))
        {
            match self.renew(token).await {
                Ok(renewed) if renewed.is_alive(self.now()) => return Ok(renewed),
                Ok(_) => {}
                Err(failure) => self.pass_over(token, failure).await?,
            }
        }
        self.take(secret, known.as_deref()).await
    }

    /// A renewal has failed.
    ///
    /// # Errors
    /// When the same renewal may work later: the server is down or sealed. A renewal past the
    /// maximum is a fault of the server's own, one that is forbidden will be so again.
    async fn pass_over(&self, token: &Token, failure: Failure) -> Result<(), ProviderError> {
        let explain = |failure: Failure| {
            Err(failure.explain(&self.place("auth/token/renew-self"), GRANT_RENEW))
        };
        if failure.is_forbidden() {
            match self.is_dead(token, &failure).await {
                Ok(true) => self.bury(token.serial()),
                Ok(false) => {}
                Err(failure) => return explain(failure),
            }
            return Ok(());
        }
        if failure.is_rejection() || failure.says(&["max TTL"]) {
            Ok(())
        } else {
            explain(failure)
        }
    }

    async fn renew(&self, token: &Token) -> Result<Arc<Token>, Failure> {
        let asked = self.now();
        let answer = self
            .ask(token, || {
                Call::post("auth/token/renew-self", json!({})).optional()
            })
            .await?
            .read::<Value>()?;
        let grant = answer.auth.ok_or(Failure::Garbled)?.grant();
        Ok(self.hold(Arc::new(token.renewed(asked, grant))))
    }

    async fn log_in(&self) -> Result<Arc<Token>, ProviderError> {
        let asked = self.now();
        let log_in = match self.auth.log_in(&self.api).await {
            Ok(log_in) => log_in,
            Err(error) => {
                // Read again, for it may be known by another name: wrapped.
                if let Some(material) = self
                    .auth
                    .material()
                    .filter(|material| material.is_file() && !error.is_transient())
                {
                    let rejected = material.read().await.ok();
                    self.lock().rejected = rejected;
                }
                return Err(error);
            }
        };
        let grant = log_in.grant();
        Ok(self.hold(Arc::new(Token::new(
            log_in.into_token(),
            self.next_serial(),
            asked,
            grant,
            Source::LogIn,
        ))))
    }

    /// Somebody else's token: `known` when it is the one that is used already.
    async fn take(
        &self,
        secret: SecretString,
        known: Option<&Token>,
    ) -> Result<Arc<Token>, ProviderError> {
        let asked = self.now();
        let looked = if known.is_none_or(|token| token.is_new(asked)) {
            self.look_up_new(secret.expose_secret()).await
        } else {
            self.look_up(secret.expose_secret()).await
        };
        let grant = match looked {
            Ok(look) => Some(look.grant()),
            Err(failure) if failure.is_forbidden() && !failure.is_by_policy() => None,
            Err(failure) => {
                return Err(failure.explain(
                    &self.place("auth/token/lookup-self"),
                    "grant `read` on auth/token/lookup-self",
                ));
            }
        };
        // In its last second it is as good as dead: what it asks for dies on the way.
        let Some(grant) = grant.filter(|grant| grant.life != Some(Duration::ZERO)) else {
            self.lock().rejected = Some(secret);
            return Err(self.rejected_token());
        };
        let source = if self.is_watched() {
            Source::File
        } else {
            Source::Nowhere
        };
        let token = match known {
            Some(token) => token.renewed(asked, grant),
            None => Token::new(secret, self.next_serial(), asked, grant, source),
        };
        Ok(self.hold(Arc::new(token)))
    }

    fn rejected_token(&self) -> ProviderError {
        let place = self.place("auth/token/lookup-self");
        if self.is_watched() {
            let problem = "the token in the file is dead; see to what writes it. The file is read again when it changes";
            ProviderError::new(
                ProviderErrorKind::Unavailable,
                format!("{place}: {problem}"),
            )
        } else {
            let problem = "the token is dead; give another";
            ProviderError::new(ProviderErrorKind::Denied, format!("{place}: {problem}"))
        }
    }

    pub(super) async fn look_up(&self, token: &str) -> Result<TokenLook, Failure> {
        token_look(self.api.ask(Some(token), look_up_self()).await?)
    }

    async fn look_up_new(&self, token: &str) -> Result<TokenLook, Failure> {
        token_look(self.api.ask_with_new(token, look_up_self).await?)
    }

    /// Uses this token from now on. One that it replaces may have leases in use.
    pub(super) fn hold(&self, token: Arc<Token>) -> Arc<Token> {
        let now = self.now();
        let (recovered, replaces) = {
            let mut state = self.lock();
            state.rejected = None;
            state.replaced.retain(|token| token.is_alive(now));
            let before = state.token.replace(Arc::clone(&token));
            state.replaced.extend(before.filter(|before| {
                before.serial() != token.serial() && before.is_own() && before.is_alive(now)
            }));
            let first = *state.first.get_or_insert(token.serial());
            (state.failed.is_some(), first != token.serial())
        };
        self.changes.send_if_modified(|change| {
            let is_other = change.serial != token.serial();
            if is_other {
                *change = Change {
                    serial: token.serial(),
                    replaces,
                    recovered,
                };
            }
            is_other
        });
        token
    }

    fn next_serial(&self) -> u64 {
        let mut state = self.lock();
        state.serial += 1;
        state.serial
    }

    /// Whether the token lies in a file.
    pub(super) fn is_watched(&self) -> bool {
        self.auth
            .foreign_token()
            .is_some_and(|material| material.is_file())
    }
}
