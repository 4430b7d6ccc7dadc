//! needs: quiet
//!
//! Managers of another driver, without a server.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::CheckPolicy;
use claviger::{Credentials, Handle, Supervisor};
use claviger_bb8::bb8::ManageConnection;
use claviger_bb8::{Bb8Pools, ManagerFactory};
use claviger_testkit::ScriptedProvider;
use tokio::time::{sleep, timeout};

/// A driver whose connections are numbers.
#[derive(Clone, Debug, Default)]
struct Driver {
    logins: Arc<AtomicU32>,
    /// Whether a login takes a second.
    is_slow: Arc<AtomicBool>,
    /// Whether a check never ends.
    checks_hang: Arc<AtomicBool>,
}

impl ManageConnection for Driver {
    type Connection = u32;
    type Error = Infallible;

    async fn connect(&self) -> Result<u32, Infallible> {
        let number = self.logins.fetch_add(1, Ordering::Relaxed);
        if self.is_slow.load(Ordering::Relaxed) {
            sleep(Duration::from_secs(1)).await;
        }
        Ok(number)
    }

    async fn is_valid(&self, _: &mut u32) -> Result<(), Infallible> {
        match self.checks_hang.load(Ordering::Relaxed) {
            true => pending().await,
            false => Ok(()),
        }
    }

    fn has_broken(&self, _: &mut u32) -> bool {
        false
    }
}

impl ManagerFactory for Driver {
    type Manager = Self;

    fn manager(&self, _: &Credentials) -> Result<Self, ConnectError> {
        Ok(self.clone())
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Other, error.to_string())
    }
}

async fn pool(supervisor: &Supervisor, driver: &Driver, check: bool) -> Handle<Bb8Pools<Driver>> {
    let credentials = supervisor.add_provider("login", ScriptedProvider::new());
    let credentials = credentials.await.expect("a lease");
    let checks = if check {
        CheckPolicy::Always
    } else {
        CheckPolicy::Never
    };
    let pools = Bb8Pools::new(driver.clone(), 4).with_checks(checks);
    let pool = supervisor.add_pool("orders", &credentials, pools);
    pool.await.expect("verified")
}

#[tokio::test]
async fn a_waiting_caller_begins_one_login() {
    let (supervisor, driver) = (Supervisor::start(), Driver::default());
    let pool = pool(&supervisor, &driver, false).await;
    driver.is_slow.store(true, Ordering::Relaxed);
    let before = driver.logins.load(Ordering::Relaxed);
    drop(pool.get().await.expect("a connection"));
    assert_eq!(driver.logins.load(Ordering::Relaxed), before + 1);
}

#[tokio::test]
async fn each_waiting_caller_has_a_login() {
    let (supervisor, driver) = (Supervisor::start(), Driver::default());
    let pool = pool(&supervisor, &driver, false).await;
    driver.is_slow.store(true, Ordering::Relaxed);
    let before = driver.logins.load(Ordering::Relaxed);
    let both = async { tokio::join!(pool.get(), pool.get()) };
    let both = timeout(Duration::from_millis(1_500), both).await;
    let (first, second) = both.expect("at the same time");
    assert_ne!(**first.expect("a connection"), **second.expect("another"));
    assert_eq!(driver.logins.load(Ordering::Relaxed), before + 2);
}

#[tokio::test]
async fn a_connection_whose_check_was_cancelled_is_closed() {
    let (supervisor, driver) = (Supervisor::start(), Driver::default());
    let pool = pool(&supervisor, &driver, true).await;
    let first = pool.get().await.expect("a connection");
    let number = **first;
    drop(first);
    driver.checks_hang.store(true, Ordering::Relaxed);
    let cancelled = timeout(Duration::from_millis(200), pool.get()).await;
    cancelled.expect_err("the check hangs");
    driver.checks_hang.store(false, Ordering::Relaxed);
    let next = pool.get().await.expect("a connection");
    assert_ne!(**next, number, "its protocol state is unknown");
}

#[test]
fn try_get_outside_of_a_runtime_returns_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (supervisor, pool) = runtime.block_on(async {
        let supervisor = Supervisor::start();
        let pool = pool(&supervisor, &Driver::default(), false).await;
        drop(pool.get().await.expect("a connection"));
        (supervisor, pool)
    });
    assert!(pool.try_get().is_none());
    let taken = {
        let _entered = runtime.enter();
        pool.try_get()
    };
    drop(taken.expect("an idle connection, which can be returned anywhere"));
    drop((supervisor, pool));
}
