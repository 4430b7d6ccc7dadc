//! Count of open connections, for a drain without polling.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts the connections of one pool: busy, idle and being opened. Clones share the count.
///
/// ```
/// use claviger_tokio_postgres::OpenConnections;
///
/// let connections = OpenConnections::default();
/// let first = connections.begin();
/// assert_eq!(connections.count(), 1);
/// drop(first);
/// assert_eq!(connections.count(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenConnections {
    count: Arc<watch::Sender<u32>>,
}

/// One connection. Dropped when it has closed, or its login has failed.
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub struct OpenConnection {
    count: Arc<watch::Sender<u32>>,
}

impl OpenConnections {
    /// Counts one more connection, until the guard is dropped. Begin before the login, and give the
    /// guard to [`PgConnect::connect_with`](crate::PgConnect::connect_with).
    pub fn begin(&self) -> OpenConnection {
        self.count.send_modify(|count| *count += 1);
        OpenConnection {
            count: Arc::clone(&self.count),
        }
    }

    /// Returns the number of connections.
    pub fn count(&self) -> u32 {
        *self.count.borrow()
    }

    /// Resolves when no connection is open.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn all_closed(&self) {
        // The sender is in this value, so the channel stays open.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.count
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}
