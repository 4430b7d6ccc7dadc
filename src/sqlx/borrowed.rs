//! A connection while a statement on a handle runs, and its return to the pool.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use tokio::runtime::Handle as Runtime;

use super::dialect::Dialect;
use super::pools::SqlPools;
use crate::pool::{Shared, give_back};

pub(super) struct Borrowed<'c, DB: Dialect> {
    connection: Option<PoolConnection<DB>>,
    shared: &'c Arc<Shared<SqlPools<DB>>>,
    done: bool,
}

impl<'c, DB: Dialect> Borrowed<'c, DB> {
    pub(super) fn new(
        shared: &'c Arc<Shared<SqlPools<DB>>>,
        connection: PoolConnection<DB>,
    ) -> Self {
        Self {
            connection: Some(connection),
            shared,
            done: false,
        }
    }

    /// Returns the connection; it is there until the drop.
    pub(super) fn connection(&mut self) -> Option<&mut PoolConnection<DB>> {
        self.connection.as_mut()
    }

    /// Notes that the statement has completed.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl<DB: Dialect> Drop for Borrowed<'_, DB> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // The usual case: its drop returns it to the pool.
        if self.done && !self.shared.gate.has_queue() {
            return;
        }
        let Ok(runtime) = Runtime::try_current() else {
            return;
        };
        let shared = Arc::clone(self.shared);
        runtime.spawn(async move { give_back(&shared, connection).await });
    }
}
