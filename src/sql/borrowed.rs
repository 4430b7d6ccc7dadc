//! A connection while a statement on a handle runs, and how it goes back.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::runtime::Handle as Runtime;
use tokio::time::timeout;

use super::login::give_back;
use crate::pool::Shared;

/// How long a connection may take to go back whose statement was broken off. sqlx asks it whether it is alive, and waits for ever; one that the network has swallowed
/// would keep its place in the pool for good.
const GOES_BACK_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Borrowed<'c, DB: Database> {
    session: Option<PoolConnection<DB>>,
    shared: &'c Arc<Shared<Pool<DB>>>,
    done: bool,
}

impl<'c, DB: Database> Borrowed<'c, DB> {
    pub(super) fn new(shared: &'c Arc<Shared<Pool<DB>>>, session: PoolConnection<DB>) -> Self {
        Self { session: Some(session), shared, done: false }
    }

    /// The connection; it is there until the drop.
    pub(super) fn session(&mut self) -> Option<&mut PoolConnection<DB>> {
        self.session.as_mut()
    }

    /// The statement has ended.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl<DB: Database> Drop for Borrowed<'_, DB> {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // The happy path: the pool takes it back as ever.
        if self.done && !self.shared.gate.has_queue() {
            return;
        }
        let Ok(runtime) = Runtime::try_current() else { return };
        let shared = Arc::clone(self.shared);
        runtime.spawn(async move {
            // Beyond the time it is closed, and its place is free.
            let _ = timeout(GOES_BACK_WITHIN, give_back(&shared, session)).await;
        });
    }
}
