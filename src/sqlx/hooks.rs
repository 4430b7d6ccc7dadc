//! Users' hooks on connections. sqlx's options do not return the hooks that are set on them.

use std::cell::Cell;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use super::sqlx::pool::{PoolConnectionMetadata, PoolOptions};
use super::sqlx::{Connection, Database, Error};
use futures_core::future::BoxFuture;
use futures_util::TryFutureExt;
use tokio::time::timeout;

use super::dialect::Dialect;
use crate::pool::{CheckPolicy, Taken};

type ConnectionOf<DB> = <DB as Database>::Connection;
type AfterConnect<DB> =
    dyn for<'c> Fn(&'c mut ConnectionOf<DB>) -> BoxFuture<'c, Result<(), Error>> + Send + Sync;
type Predicate<DB> = dyn for<'c> Fn(
        &'c mut <DB as Database>::Connection,
        PoolConnectionMetadata,
    ) -> BoxFuture<'c, Result<bool, Error>>
    + Send
    + Sync;

/// Hooks that were given to the factory.
pub(super) struct Hooks<DB: Database> {
    pub(super) after_connect: Option<Arc<AfterConnect<DB>>>,
    pub(super) before_acquire: Option<Arc<Predicate<DB>>>,
    pub(super) after_release: Option<Arc<Predicate<DB>>>,
    /// Timeout of the ping when a connection is returned.
    pub(super) return_timeout: Option<Duration>,
    /// Whether [`taken`] receives how long a connection was idle.
    pub(super) reports_idle_time: bool,
    /// Whether the pool checks connections that it returns to callers other than [`taken`].
    pub(super) checks_in_pool: bool,
}

tokio::task_local! {
    /// The idle time of the connection that a handle's acquire in this task is about to return.
    static IDLE_FOR: Cell<Duration>;
}

/// Returns the connection of an acquire with its idle time. Without a call of `before_acquire`, the
/// connection was just opened. An async function would store the acquire (15 kB) twice.
pub(super) fn taken<C, E>(
    acquiring: impl Future<Output = Result<C, E>>,
) -> impl Future<Output = Result<Taken<C>, E>> {
    let taken = acquiring.map_ok(|connection| Taken::new(connection, IDLE_FOR.with(Cell::get)));
    IDLE_FOR.scope(Cell::default(), taken)
}

impl<DB: Database> Clone for Hooks<DB> {
    fn clone(&self) -> Self {
        Self {
            after_connect: self.after_connect.clone(),
            before_acquire: self.before_acquire.clone(),
            after_release: self.after_release.clone(),
            return_timeout: self.return_timeout,
            reports_idle_time: self.reports_idle_time,
            checks_in_pool: self.checks_in_pool,
        }
    }
}

impl<DB: Dialect> Hooks<DB> {
    /// Returns the options with these hooks in place of their own. Other hooks of the options stay
    /// as they are. `checks` is the condition of the checks in the pool.
    pub(super) fn apply(
        &self,
        mut options: PoolOptions<DB>,
        checks: CheckPolicy,
    ) -> PoolOptions<DB> {
        if let Some(hook) = self.after_connect.clone() {
            options = options.after_connect(move |connection, _| hook(connection));
        }
        if self.before_acquire.is_some() || self.reports_idle_time {
            let hook = self.before_acquire.clone();
            let check_after = match checks {
                CheckPolicy::Always => Some(Duration::ZERO),
                CheckPolicy::AfterIdle(idle) => Some(idle),
                CheckPolicy::Never => None,
            };
            let check_after = check_after.filter(|_| self.checks_in_pool);
            options = options.before_acquire(move |connection, about| {
                let noted = IDLE_FOR.try_with(|idle_for| idle_for.set(about.idle_for));
                // A handle checks its connections itself.
                let is_due =
                    noted.is_err() && check_after.is_some_and(|idle| about.idle_for >= idle);
                if !is_due {
                    return match &hook {
                        Some(hook) => hook(connection, about),
                        None => Box::pin(ready(Ok(true))),
                    };
                }
                let hook = hook.clone();
                Box::pin(async move {
                    // Closes it. sqlx would log an error at WARN for each connection.
                    if DB::ping(connection).await.is_err() {
                        return Ok(false);
                    }
                    match &hook {
                        Some(hook) => hook(connection, about).await,
                        None => Ok(true),
                    }
                })
            });
        }
        if self.after_release.is_none() && self.return_timeout.is_none() {
            return options;
        }
        let (hook, within) = (self.after_release.clone(), self.return_timeout);
        options.after_release(move |connection, about| {
            let hook = hook.clone();
            Box::pin(async move {
                if let Some(within) = within {
                    // An error closes the connection without a message to the server, which would
                    // hang as well.
                    timeout(within, connection.ping())
                        .await
                        .map_err(|_| Error::PoolTimedOut)??;
                }
                match &hook {
                    Some(hook) => hook(connection, about).await,
                    None => Ok(true),
                }
            })
        })
    }
}
