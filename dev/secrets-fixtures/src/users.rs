//! Changes that a rotation makes in the database, as superuser.

use claviger_servers::{MariaDb, Postgres};

/// A server whose users can be rotated.
pub trait Users {
    /// Creates `app_clone`, with the privileges of `app` and an unknown password.
    fn create_clone(&self);
    /// Terminates the connections of both users and returns how many there were.
    fn terminate_both(&self) -> usize;
    /// Sets the user's password; open connections continue.
    fn set_user_password(&self, user: &str, password: &str);
}

/// Implements [`Users`] for a server; `$grant` gives the clone the privileges of `app`.
macro_rules! impl_users {
    ($server:ty, $grant:literal) => {
        impl Users for $server {
            fn create_clone(&self) {
                self.create_role("app_clone", "an unknown password")
                    .expect("the clone is created");
                self.sql($grant).expect("privileges are granted");
            }

            fn terminate_both(&self) -> usize {
                ["app", "app_clone"]
                    .into_iter()
                    .map(|user| {
                        self.terminate_connections(user)
                            .expect("connections are terminated")
                    })
                    .sum()
            }

            fn set_user_password(&self, user: &str, password: &str) {
                self.set_password(user, password)
                    .expect("the password is set");
            }
        }
    };
}

impl_users!(Postgres, "GRANT app TO app_clone");
impl_users!(MariaDb, "GRANT ALL ON orders.* TO app_clone");
