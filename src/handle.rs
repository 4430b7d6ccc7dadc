//! The handle for application code.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::error::ConnectErrorKind;
use crate::lease::OldConnections;
#[cfg(doc)]
use crate::pool::CheckPolicy;
use crate::pool::{Phase, PoolFactory, Shared, acquire, are_expired};
use crate::status::PoolStatus;

/// Leads to the current generation of a pool. Cheap to clone; dropping it does nothing.
///
/// [`get`](Self::get) returns a connection of any kind of pool. `&Handle<PgPools>` can also replace
/// `&PgPool`: in `fetch_one(&db)`, `db.begin()`, `migrate!().run(&db)`.
///
/// ```
/// # #[cfg(all(feature = "postgres", feature = "sqlx-09"))] mod service {
/// use claviger::{Handle, PgPools};
///
/// async fn orders(db: &Handle<PgPools>) -> Result<i64, sqlx::Error> {
///     let mut transaction = db.begin().await?;
///     sqlx::query("set local statement_timeout = '1s'").execute(&mut *transaction).await?;
///     let orders = sqlx::query_scalar("select count(*) from orders")
///         .fetch_one(&mut *transaction)
///         .await?;
///     transaction.commit().await?;
///     Ok(orders)
/// }
///
/// /// Uses one connection, which stays open through a handover.
/// async fn listen(db: &Handle<PgPools>) -> Result<(), sqlx::Error> {
///     let mut connection = db.get().await?;
///     println!("on generation {}", db.generation());
///     sqlx::query("listen orders").execute(&mut *connection).await?;
///     Ok(())
/// }
/// # }
/// ```
pub struct Handle<F: PoolFactory> {
    shared: Arc<Shared<F>>,
}

impl<F: PoolFactory> Handle<F> {
    pub(crate) fn supervised(shared: Arc<Shared<F>>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<F>> {
        &self.shared
    }

    /// Returns the number of the current generation: 1, 2, 3 …; 0 before the first verification.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.current().number
    }

    /// Resolves with the new number once the current generation differs from that at the call.
    /// Never resolves once the pool is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped. To detect a generation published between two
    /// calls, compare [`generation`](Self::generation).
    pub fn changed(&self) -> impl Future<Output = u64> + Send + use<F> {
        let mut changes = self.shared.changes();
        let seen = *changes.borrow_and_update();
        async move {
            if let Ok(number) = changes.wait_for(|number| *number != seen).await {
                return *number;
            }
            std::future::pending().await
        }
    }

    /// Reports the error of a query that did not go through `&Handle`: through
    /// [`current`](Self::current), or a connection acquired earlier. Returns whether it is a
    /// rejection that makes the supervisor refresh the credentials.
    ///
    /// After the error of a connection that ended, [`CheckPolicy::AfterIdle`] checks the others.
    /// With [`OldConnections::EndWithLease`], connections are also probed after an error that a
    /// dropped role would explain.
    ///
    /// `generation` is the number read *before* the connection was opened. Nothing else happens
    /// when a newer one is current by now.
    pub fn rejected(&self, generation: u64, error: &(dyn StdError + 'static)) -> bool {
        let Some(control_plane) = self.shared.control_plane() else {
            return false;
        };
        let connect_error = control_plane.classify(error);
        let is_unreachable = connect_error.kind() == ConnectErrorKind::Unreachable;
        if is_unreachable {
            self.shared.checks.found_broken(self.shared.clock.mono());
        }
        let current = self.shared.current();
        if current.number != generation {
            return false;
        }
        if connect_error.kind() != ConnectErrorKind::Rejected {
            let probed = || self.shared.factory.classify_probe(error).kind();
            if current.old_connections == OldConnections::EndWithLease
                && (is_unreachable || probed() == ConnectErrorKind::Rejected)
            {
                control_plane.note_unverified(generation);
            }
            return false;
        }
        control_plane.rejected(generation, connect_error);
        true
    }

    /// Returns the status of the pool; `None` once the pool is gone.
    #[must_use]
    pub fn status(&self) -> Option<PoolStatus> {
        Some(self.shared.control_plane()?.status())
    }

    /// Returns whether the pool was removed or shut down.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.current().lifecycle.phase() == Phase::Closed
    }

    /// Returns a usable connection of the current generation.
    ///
    /// It keeps working through a handover, until the drain deadline and beyond.
    ///
    /// # Errors
    /// Those of the pool; "closed" only after removal or shutdown. If the database rejects the
    /// credentials and no connection is available before the pool's `acquire_timeout`: the
    /// rejection, with the original SQLSTATE.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn get(&self) -> Result<F::Connection, F::Error> {
        acquire(&self.shared)
            .await
            .map(|acquired| acquired.connection)
    }

    /// Returns an idle connection, without waiting; `None` when there is none.
    #[must_use]
    pub fn try_get(&self) -> Option<F::Connection> {
        let generation = self.shared.current();
        if are_expired(&self.shared, &generation) {
            return None;
        }
        Some(self.shared.factory.try_get(&generation.pool)?.connection)
    }

    /// Returns the pool of the current generation, for libraries that need a pool. It is closed
    /// when the pool is replaced; it stays valid where every handover is in place (see
    /// [`HandoverPolicy::AlwaysInPlace`](crate::pool::HandoverPolicy::AlwaysInPlace)). Logins
    /// through it wait for no permit, so old and new connections may exceed the overlap.
    ///
    /// The pool does not check the connections that it returns, because the handle does. Its users
    /// may get connections that the server has ended. sqlx's pools check them with the setting
    /// `with_checks_in_pool`.
    #[must_use]
    pub fn current(&self) -> F::Pool {
        self.shared.current().pool.clone()
    }
}

impl<F: PoolFactory> Clone for Handle<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<F: PoolFactory> fmt::Debug for Handle<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("pool", &self.shared.name)
            .field("generation", &self.generation())
            .finish()
    }
}
