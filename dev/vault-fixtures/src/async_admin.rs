//! The administrator for async tests.

#![expect(clippy::expect_used, reason = "a failing fixture fails the test")]

use std::sync::Arc;

use claviger_servers::Proxy;
use claviger_servers::openbao::OpenBaoBuilder;
use serde_json::json;

use crate::{Admin, Problem};

/// An administrator whose work runs off the async threads.
#[derive(Clone, Debug)]
pub struct AsyncAdmin {
    /// The administrator.
    pub admin: Arc<Admin>,
}

impl AsyncAdmin {
    /// Starts a server with the policy `orders`.
    ///
    /// # Panics
    /// Panics if it does not start.
    pub async fn start() -> Self {
        Self::start_with(OpenBaoBuilder::default()).await
    }

    /// Starts a server with the policy `orders` and a secret `kv/orders`: user `app`, password
    /// `password-1`.
    ///
    /// # Panics
    /// Panics if it does not start, or if the secret cannot be written.
    pub async fn with_a_secret() -> Self {
        let admin = Self::start().await;
        admin
            .run(|admin| admin.kv(&json!({ "username": "app", "password": "password-1" })))
            .await;
        admin
    }

    /// Starts a server with the policy `orders` from a builder.
    ///
    /// # Panics
    /// Panics if it does not start.
    pub async fn start_with(builder: OpenBaoBuilder) -> Self {
        let admin = run_blocking(|| {
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

    /// Runs the administrator's work.
    ///
    /// # Panics
    /// Panics if it fails.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static,
    ) -> T {
        let admin = Arc::clone(&self.admin);
        run_blocking(move || work(&admin))
            .await
            .expect("the administrator's work succeeds")
    }

    /// Starts a proxy that counts the requests to the server.
    ///
    /// # Panics
    /// Panics if there is no free port.
    pub fn proxy(&self) -> Proxy {
        Proxy::start(&self.admin.vault.address()).expect("a proxy starts")
    }
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
