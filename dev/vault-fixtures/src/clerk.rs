//! The administrator, off the async threads.

#![expect(
    clippy::expect_used,
    reason = "scenery of tests: what fails here fails the test"
)]

use std::sync::Arc;

use claviger_servers::{Proxy, openbao};
use serde_json::json;

use crate::{Admin, Problem};

/// An administrator whose work is done off the async threads.
#[derive(Clone, Debug)]
pub struct Clerk {
    /// The administrator.
    pub admin: Arc<Admin>,
}

impl Clerk {
    /// Of a server with the policy `orders` and nothing else in it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        Self::start_with(openbao::Builder::default()).await
    }

    /// Of a server in which there is a secret `kv/orders`, too: the login `app` with the password
    /// `password-1`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn with_a_secret() -> Self {
        let clerk = Self::start().await;
        clerk
            .asks(|admin| admin.kv(&json!({ "username": "app", "password": "password-1" })))
            .await;
        clerk
    }

    /// Of a server that is to be different.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start_with(builder: openbao::Builder) -> Self {
        let admin = blocking(|| {
            let admin = Admin {
                vault: builder.start().expect("a server starts"),
            };
            admin.policy().expect("a policy is written");
            admin
        })
        .await;
        Self {
            admin: Arc::new(admin),
        }
    }

    /// Does something as the administrator.
    ///
    /// # Panics
    /// When it is not done.
    pub async fn asks<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static,
    ) -> T {
        let admin = Arc::clone(&self.admin);
        blocking(move || work(&admin)).await.expect("it is done")
    }

    /// What counts the requests, for those who take it for the server.
    ///
    /// # Panics
    /// When there is no port.
    pub fn proxy(&self) -> Proxy {
        Proxy::start(&self.admin.vault.address()).expect("a proxy starts")
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
