//! The connection that a caller gets.

use std::fmt;
use std::ops::{Deref, DerefMut};

use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// A connection of a pool. It dereferences to diesel's [`AsyncPgConnection`], and queries take it
/// as `&mut connection`.
///
/// When it is dropped inside a transaction, because its call was cancelled, it is closed at once.
/// deadpool alone would keep it, inside its transaction, until the next caller takes it.
pub struct PgConnection {
    /// `None` while it is dropped.
    object: Option<Object<AsyncPgConnection>>,
}

impl From<Object<AsyncPgConnection>> for PgConnection {
    fn from(object: Object<AsyncPgConnection>) -> Self {
        Self {
            object: Some(object),
        }
    }
}

impl PgConnection {
    /// Closes the connection instead of returning it, and frees its place.
    pub(crate) fn close(mut self) {
        drop(self.object.take().map(Object::take));
    }
}

impl Drop for PgConnection {
    fn drop(&mut self) {
        if let Some(mut object) = self.object.take()
            && Transactions::is_broken_transaction_manager(&mut *object)
        {
            drop(Object::take(object));
        }
    }
}

impl Deref for PgConnection {
    type Target = AsyncPgConnection;

    #[expect(clippy::expect_used, reason = "no caller has it while it is dropped")]
    fn deref(&self) -> &AsyncPgConnection {
        self.object.as_ref().expect("a connection in use")
    }
}

impl DerefMut for PgConnection {
    #[expect(clippy::expect_used, reason = "no caller has it while it is dropped")]
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.object.as_mut().expect("a connection in use")
    }
}

impl fmt::Debug for PgConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConnection").finish_non_exhaustive()
    }
}
