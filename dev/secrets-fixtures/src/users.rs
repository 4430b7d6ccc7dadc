//! What a rotation does in the database, as its superuser.

use claviger_servers::{MariaDb, Postgres};

/// A server whose users a rotation may change.
pub trait Users {
    /// Makes `app_clone`, who may do what `app` may and whose password nobody knows.
    fn clone_app(&self);
    /// Ends the connections of both; answers how many.
    fn cut_both(&self) -> usize;
    /// The user's password from now on; open connections go on.
    fn give_password(&self, user: &str, password: &str);
}

impl Users for Postgres {
    fn clone_app(&self) {
        self.create_role("app_clone", "nobody knows this one")
            .expect("a role is made");
        self.sql("GRANT app TO app_clone")
            .expect("it may do the same");
    }

    fn cut_both(&self) -> usize {
        ["app", "app_clone"]
            .into_iter()
            .map(|user| {
                self.terminate_connections(user)
                    .expect("connections are terminated")
            })
            .sum()
    }

    fn give_password(&self, user: &str, password: &str) {
        self.set_password(user, password)
            .expect("the password is set");
    }
}

impl Users for MariaDb {
    fn clone_app(&self) {
        self.create_role("app_clone", "nobody knows this one")
            .expect("a user is made");
        self.sql("GRANT ALL ON orders.* TO app_clone")
            .expect("it may do the same");
    }

    fn cut_both(&self) -> usize {
        ["app", "app_clone"]
            .into_iter()
            .map(|user| {
                self.terminate_connections(user)
                    .expect("connections are terminated")
            })
            .sum()
    }

    fn give_password(&self, user: &str, password: &str) {
        self.set_password(user, password)
            .expect("the password is set");
    }
}
