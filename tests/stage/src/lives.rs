//! Connections that are closed soon.

use std::time::Duration;

use sqlx::Database;
use sqlx::pool::PoolOptions;

/// A pool whose connections are closed when they return older than this: new logins are needed all the time.
///
/// Not by `max_lifetime`: sqlx 0.8.6 looks after its idle connections as often as that says, and when it comes upon its count of them while that is below zero, it
/// spins for ever.
pub fn short_lived<DB: Database>(options: PoolOptions<DB>, life: Duration) -> PoolOptions<DB> {
    let options = options.max_lifetime(None).idle_timeout(None);
    options.after_release(move |_, connection| Box::pin(async move { Ok(connection.age < life) }))
}
