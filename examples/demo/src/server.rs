//! Servers of the demo, and the changes that the demo makes to them.

#[cfg(feature = "mariadb")]
pub(crate) mod mariadb;
#[cfg(any(
    feature = "bb8",
    feature = "deadpool",
    feature = "diesel",
    feature = "sqlx"
))]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
mod redis;

use crate::Problem;

/// User of the supervised pool.
pub(crate) const APP: &str = "app";
/// User of the plain pool.
pub(crate) const PLAIN: &str = "plain";
/// Password of both users at the start.
pub(crate) const FIRST_PASSWORD: &str = "password-0";

/// A server with the users [`APP`] and [`PLAIN`], which may both read the orders.
pub(crate) trait Server: Send + Sync + Sized + 'static {
    /// Name of the product.
    const NAME: &'static str;
    /// The command that changes a password.
    const CHANGE: &'static str;

    /// Starts the server. Both users have the [`FIRST_PASSWORD`].
    fn start() -> Result<Self, Problem>;
    fn port(&self) -> u16;
    /// Sets a user's password. Open connections continue.
    fn change_password(&self, user: &str, password: &str) -> Result<(), Problem>;
    /// Terminates every connection of a user.
    fn kill_connections(&self, user: &str) -> Result<(), Problem>;
    /// Returns how many logins of a user were rejected.
    fn rejected_logins(&self, user: &str) -> Result<u64, Problem>;
}
