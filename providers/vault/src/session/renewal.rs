//! Obtains, renews and replaces the token.

use std::sync::Arc;
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{FailedAttempt, Inner, State, Token, TokenChange, VaultSession};
use crate::api::{Call, CallError, Response, TokenLookup};
use crate::auth::AuthSecret;
use crate::lifetime::{TokenOrigin, TokenTask};
use crate::path::error_at;

/// Time after a failed attempt to obtain or renew a token within which its error is returned again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const GRANT_RENEW: &str = "grant `update` on auth/token/renew-self";

impl VaultSession {
    /// Returns the token to use now. `fresh`: if half of its lifetime has passed, it is renewed or
    /// replaced first.
    pub(crate) async fn token(&self, fresh: bool) -> Result<Arc<Token>, ProviderError> {
        let now = self.now();
        let usable = self.0.usable_token(now);
        if let Some(token) = usable
            .as_ref()
            .filter(|token| !fresh || !token.is_stale(now))
        {
            return Ok(Arc::clone(token));
        }
        let work = self.update_token(move |state, now| match &state.token {
            Some(token) if token.is_valid(now) => fresh && token.is_stale(now),
            _ => true,
        });
        match (work.await, usable) {
            (Err(_), Some(token)) if token.is_valid(self.now()) => Ok(token),
            (worked, _) => worked,
        }
    }

    /// Returns the error of the last attempt to obtain or renew a token, if it failed.
    pub(crate) fn last_error(&self) -> Option<ProviderError> {
        self.0
            .state
            .lock()
            .failed
            .as_ref()
            .map(|failed| failed.error.clone())
    }

    /// Obtains, renews or replaces the token, if `due` still returns true after earlier updates.
    ///
    /// # Cancel safety
    /// The update is a task of its own and continues without the caller, so that no token is lost.
    pub(super) async fn update_token(
        &self,
        due: impl FnOnce(&State, Timestamp) -> bool + Send + 'static,
    ) -> Result<Arc<Token>, ProviderError> {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let _updating = Arc::clone(&inner.update_lock).lock_owned().await;
            let now = inner.now();
            {
                let state = inner.state.lock();
                if !due(&state, now) {
                    return state.token.clone().ok_or_else(session_closed);
                }
                // Without users, nothing would revoke a new token.
                if state.users == 0 && inner.auth.has_login() {
                    return Err(session_closed());
                }
                let recent = state.failed.as_ref().filter(|failed| {
                    now.mono().saturating_duration_since(failed.at) < RETRY_INTERVAL
                });
                if let Some(failed) = recent {
                    return Err(failed.error.clone());
                }
            }
            let result = inner.obtain_token(now).await;
            inner.record(&result);
            result
        });
        task.await.unwrap_or_else(|_| {
            Err(ProviderError::new(
                ProviderErrorKind::Panicked,
                "a login to Vault panicked; read the service's output",
            ))
        })
    }
}

/// Returns the lookup of the token itself. A denial by the policy is an expected response.
fn look_up_self() -> Call {
    Call::get("auth/token/lookup-self").optional()
}

fn read_lookup(response: Response) -> Result<TokenLookup, CallError> {
    response
        .read::<TokenLookup>()?
        .data
        .ok_or(CallError::InvalidResponse)
}

fn session_closed() -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Other,
        "no provider uses this session any more; register one again",
    )
}

impl Inner {
    fn record(&self, result: &Result<Arc<Token>, ProviderError>) {
        let now = self.now().mono();
        let Err(error) = result else {
            self.state.lock().failed = None;
            self.failures.succeeded();
            return;
        };
        {
            let mut state = self.state.lock();
            let before = state.failed.as_ref().map_or(0, |failed| failed.count);
            state.failed = Some(FailedAttempt {
                at: now,
                count: before.saturating_add(1),
                error: error.clone(),
            });
        }
        // Without the lock, which a slow output would keep from every fetch.
        if self.failures.failed(now, error.kind().as_str()).is_some() {
            tracing::warn!(
                vault = %self.api.address(),
                error = %error,
                "no new token; the current one is used until it expires"
            );
        } else {
            tracing::debug!(vault = %self.api.address(), error = %error, "still no new token");
        }
    }

    /// Obtains the first token, renews the current one, or replaces it.
    async fn obtain_token(&self, now: Timestamp) -> Result<Arc<Token>, ProviderError> {
        let current = self.usable_token(now);
        match self.auth.external_token() {
            None => self.obtain_own_token(current).await,
            Some(secret) => self.obtain_external_token(secret, current).await,
        }
    }

    async fn obtain_own_token(
        &self,
        current: Option<Arc<Token>>,
    ) -> Result<Arc<Token>, ProviderError> {
        if let Some(token) =
            current.filter(|token| matches!(token.next_task(), Some((_, TokenTask::Renew))))
        {
            match self.renew(&token).await {
                // A token at its maximum is replaced below.
                Ok(renewed) if !matches!(renewed.next_task(), Some((_, TokenTask::Replace))) => {
                    return Ok(renewed);
                }
                Ok(_) => {}
                Err(failure) => self.check_failed_renewal(&token, failure).await?,
            }
        }
        self.login().await
    }

    /// Obtains the external token. Another one in the file takes precedence over the current one,
    /// even if that is valid.
    async fn obtain_external_token(
        &self,
        secret: &AuthSecret,
        current: Option<Arc<Token>>,
    ) -> Result<Arc<Token>, ProviderError> {
        let secret = match (secret.read().await, &current) {
            (Ok(secret), _) => secret,
            // An unreadable file does not invalidate the token.
            (Err(_), Some(token)) => SecretString::from(token.expose()),
            (Err(error), None) => return Err(error),
        };
        let known = current.filter(|token| token.expose() == secret.expose_secret());
        if let Some(token) = known
            .as_ref()
            .filter(|token| matches!(token.next_task(), Some((_, TokenTask::Renew))))
        {
            match self.renew(token).await {
                Ok(renewed) if renewed.is_valid(self.now()) => return Ok(renewed),
                Ok(_) => {}
                Err(failure) => self.check_failed_renewal(token, failure).await?,
            }
        }
        self.adopt(secret, known.as_deref()).await
    }

    /// Handles a failed renewal. Returns `Ok` if another token is needed: the renewal was past the
    /// maximum, or forbidden.
    ///
    /// # Errors
    /// The error of the renewal if it may succeed later: the server is down or sealed.
    async fn check_failed_renewal(
        &self,
        token: &Token,
        failure: CallError,
    ) -> Result<(), ProviderError> {
        let explain = |failure: CallError| {
            Err(failure.explain(&self.place("auth/token/renew-self"), GRANT_RENEW))
        };
        if failure.is_forbidden() {
            match self.is_token_invalid(token, &failure).await {
                Ok(true) => self.invalidate(token.serial()),
                Ok(false) => {}
                Err(failure) => return explain(failure),
            }
            return Ok(());
        }
        if failure.is_rejection() || failure.mentions(&["max TTL"]) {
            Ok(())
        } else {
            explain(failure)
        }
    }

    async fn renew(&self, token: &Token) -> Result<Arc<Token>, CallError> {
        let sent = self.now();
        let response = self
            .send(token, || {
                Call::post("auth/token/renew-self", json!({})).optional()
            })
            .await?
            .read::<Value>()?;
        let grant = response.auth.ok_or(CallError::InvalidResponse)?.grant();
        Ok(self.set_token(Arc::new(token.renewed(sent, grant))))
    }

    async fn login(&self) -> Result<Arc<Token>, ProviderError> {
        let sent = self.now();
        let login = match self.auth.login(&self.api).await {
            Ok(login) => login,
            Err(error) => {
                // Read again, because the rejected secret may have been a wrapped one.
                if let Some(secret) = self
                    .auth
                    .secret()
                    .filter(|secret| secret.is_file() && !error.is_transient())
                {
                    let rejected = secret.read().await.ok();
                    self.state.lock().rejected = rejected;
                }
                return Err(error);
            }
        };
        let grant = login.grant();
        Ok(self.set_token(Arc::new(Token::new(
            login.into_token(),
            self.next_serial(),
            sent,
            self.now(),
            grant,
            TokenOrigin::Login,
        ))))
    }

    /// Adopts an external token. `known` is the current token, if it is the same.
    async fn adopt(
        &self,
        secret: SecretString,
        known: Option<&Token>,
    ) -> Result<Arc<Token>, ProviderError> {
        let sent = self.now();
        let polled = if known.is_none_or(|token| token.is_new(sent)) {
            self.look_up_new(secret.expose_secret()).await
        } else {
            self.look_up(secret.expose_secret()).await
        };
        let grant = match polled {
            Ok(poll) => Some(poll.grant()),
            Err(failure) if failure.is_forbidden() && !failure.is_policy_denial() => None,
            Err(failure) => {
                return Err(failure.explain(
                    &self.place("auth/token/lookup-self"),
                    "grant `read` on auth/token/lookup-self",
                ));
            }
        };
        // A token in its last second expires before its next request arrives.
        let Some(grant) = grant.filter(|grant| grant.lifetime != Some(Duration::ZERO)) else {
            self.state.lock().rejected = Some(secret);
            return Err(self.rejected_token_error());
        };
        let origin = if self.is_token_file() {
            TokenOrigin::File
        } else {
            TokenOrigin::Fixed
        };
        let token = match known {
            Some(token) => token.renewed(sent, grant),
            None => Token::new(secret, self.next_serial(), sent, self.now(), grant, origin),
        };
        Ok(self.set_token(Arc::new(token)))
    }

    fn rejected_token_error(&self) -> ProviderError {
        let place = self.place("auth/token/lookup-self");
        if self.is_token_file() {
            error_at(
                &place,
                ProviderErrorKind::Unavailable,
                "the token in the file is invalid",
                "check what writes it. The file is read again when it changes",
            )
        } else {
            error_at(
                &place,
                ProviderErrorKind::Denied,
                "the token is invalid",
                "configure another",
            )
        }
    }

    pub(super) async fn look_up(&self, token: &str) -> Result<TokenLookup, CallError> {
        read_lookup(self.api.send(Some(token), look_up_self()).await?)
    }

    async fn look_up_new(&self, token: &str) -> Result<TokenLookup, CallError> {
        read_lookup(self.api.send_with_new_token(token, look_up_self).await?)
    }

    /// Makes this the current token. The replaced one is kept, because its leases may be in use.
    pub(super) fn set_token(&self, token: Arc<Token>) -> Arc<Token> {
        let now = self.now();
        let (recovered, replaces) = {
            let mut state = self.state.lock();
            state.rejected = None;
            state.replaced.retain(|token| token.is_valid(now));
            let before = state.token.replace(Arc::clone(&token));
            state.replaced.extend(before.filter(|before| {
                before.serial() != token.serial() && before.is_own() && before.is_valid(now)
            }));
            let first = *state.first.get_or_insert(token.serial());
            (state.failed.is_some(), first != token.serial())
        };
        self.changes.send_if_modified(|change| {
            let is_other = change.serial != token.serial();
            if is_other {
                *change = TokenChange {
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
        let mut state = self.state.lock();
        state.serial += 1;
        state.serial
    }

    /// Returns whether the token is in a file.
    pub(super) fn is_token_file(&self) -> bool {
        self.auth
            .external_token()
            .is_some_and(|secret| secret.is_file())
    }
}
