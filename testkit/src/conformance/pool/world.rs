//! The subject and its database, as the checks use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use claviger::error::ConnectError;
use claviger::pool::{PoolFactory, Taken};
use claviger::testing::ObservedPermits;
use claviger::{Lease, Revision};
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio::time::timeout;

use super::PoolControls;
use crate::conformance::runner::{CheckResult, Secrets, WATCH, eventually, failed, step};
use crate::conformance::tools::show;

pub(super) struct World<F, C> {
    pub(super) factory: Arc<F>,
    pub(super) controls: Arc<C>,
    pub(super) secrets: Secrets,
    /// Number of password changes: the revision. Locked while the password changes.
    changes: Arc<RwLock<u32>>,
    pub(super) fetches: Arc<AtomicU32>,
}

impl<F, C> Clone for World<F, C> {
    fn clone(&self) -> Self {
        Self {
            factory: Arc::clone(&self.factory),
            controls: Arc::clone(&self.controls),
            secrets: self.secrets.clone(),
            changes: Arc::clone(&self.changes),
            fetches: Arc::clone(&self.fetches),
        }
    }
}

/// A pool without a supervisor.
pub(super) struct Opened<F: PoolFactory> {
    pub(super) pool: F::Pool,
    pub(super) permits: ObservedPermits,
    /// Errors of the logins for which it had a permit.
    pub(super) login_errors: Arc<Mutex<Vec<ConnectError>>>,
}

impl<F: PoolFactory, C: PoolControls<F>> World<F, C> {
    pub(super) fn new(factory: F, controls: C) -> Self {
        Self {
            factory: Arc::new(factory),
            controls: Arc::new(controls),
            secrets: Secrets::default(),
            changes: Arc::default(),
            fetches: Arc::default(),
        }
    }

    pub(super) fn max(&self) -> u32 {
        self.factory.settings().max_connections
    }

    /// Returns credentials that are valid now. A report does not show them.
    pub(super) fn credentials(&self) -> F::Secret {
        let credentials = self.controls.credentials();
        self.secrets.add(self.controls.secret_text(&credentials));
        credentials
    }

    pub(super) fn unreachable_credentials(&self) -> Option<F::Secret> {
        let credentials = self.controls.unreachable_credentials()?;
        self.secrets.add(self.controls.secret_text(&credentials));
        Some(credentials)
    }

    pub(super) async fn change_password(&self) -> CheckResult {
        let mut changes = self.changes.write().await;
        self.controls.change_password().await?;
        *changes += 1;
        Ok(())
    }

    /// Returns the current credentials as a lease. Their revision is the number of changes.
    pub(super) async fn lease(&self) -> Lease<F::Secret> {
        let changes = self.changes.read().await;
        self.fetches.fetch_add(1, Ordering::AcqRel);
        Lease::new(self.credentials(), Revision::new(changes.to_string()))
    }

    /// Ends all connections, so that those of an earlier check do not count.
    pub(super) async fn reset(&self) -> CheckResult {
        self.fetches.store(0, Ordering::Release);
        self.controls.kill_connections().await?;
        self.until_open(0, "no connection is open after `kill_connections`")
            .await
    }

    /// Waits until the database has this number of connections.
    pub(super) async fn until_open(&self, number: u32, expected: &str) -> CheckResult {
        eventually(expected, || async {
            let open = self.controls.open_connections().await?;
            Ok((open != number).then(|| format!("{open} connections are open")))
        })
        .await
    }

    /// Fails unless the database keeps this number of connections for a while.
    pub(super) async fn stays_open(&self, number: u32, expected: &str) -> CheckResult {
        tokio::time::sleep(WATCH).await;
        let open = self.controls.open_connections().await?;
        if open == number {
            return Ok(());
        }
        Err(failed(expected, format!("{open} connections are open")))
    }

    /// Opens a pool without a supervisor.
    pub(super) fn open(&self, credentials: &F::Secret) -> CheckResult<Opened<F>> {
        let login_errors = Arc::<Mutex<Vec<ConnectError>>>::default();
        let (factory, errors) = (Arc::downgrade(&self.factory), Arc::clone(&login_errors));
        let permits = ObservedPermits::new(move |error| {
            if let Some(factory) = factory.upgrade() {
                errors.lock().push(factory.classify(error));
            }
        });
        let opened = self.factory.open(credentials, permits.login_permits());
        let pool = opened.map_err(|error| failed("`open` returns a pool", error))?;
        Ok(Opened {
            pool,
            permits,
            login_errors,
        })
    }

    /// Resets the database and opens a pool for valid credentials.
    pub(super) async fn open_fresh(&self) -> CheckResult<Opened<F>> {
        self.reset().await?;
        self.open(&self.credentials())
    }

    pub(super) async fn get(&self, pool: &F::Pool) -> CheckResult<F::Connection> {
        let got = step("`get`", self.factory.get(pool)).await?;
        match got {
            Ok(Taken { connection, .. }) => Ok(connection),
            Err(error) => Err(failed("`get` returns a connection", show(&error))),
        }
    }

    pub(super) async fn get_many(
        &self,
        pool: &F::Pool,
        number: u32,
    ) -> CheckResult<Vec<F::Connection>> {
        let mut connections = Vec::new();
        for _ in 0..number {
            connections.push(self.get(pool).await?);
        }
        Ok(connections)
    }

    pub(super) async fn query(&self, connection: &mut F::Connection) -> CheckResult {
        let queried = step("a query", self.controls.query(connection)).await?;
        queried.map_err(|error| failed("a query on the connection works", error))
    }

    pub(super) async fn give_back(&self, connection: F::Connection) -> CheckResult {
        step("`give_back`", self.factory.give_back(connection)).await
    }

    pub(super) async fn give_all_back(&self, connections: Vec<F::Connection>) -> CheckResult {
        for connection in connections {
            self.give_back(connection).await?;
        }
        Ok(())
    }

    /// Closes the pool at the end of a check. Ignores an error of `drain`, whose check rests on
    /// this one.
    pub(super) async fn abandon(&self, opened: &Opened<F>) {
        let _ = timeout(WATCH, self.factory.drain(opened.pool.clone())).await;
    }

    /// Closes the pool at the end of a check, so that the next one finds no connection.
    pub(super) async fn close(&self, opened: &Opened<F>) -> CheckResult {
        step(
            "`drain` of a pool without busy connections",
            self.factory.drain(opened.pool.clone()),
        )
        .await
    }
}
