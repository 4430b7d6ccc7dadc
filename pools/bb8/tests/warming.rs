//! needs: quiet
//!
//! Logins before the publication of a pool, without a server.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::error::Error as StdError;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::{Credentials, Supervisor};
use claviger_bb8::bb8::ManageConnection;
use claviger_bb8::{Bb8Pools, ManagerFactory};
use claviger_testkit::ScriptedProvider;
use tokio::time::{sleep, timeout};

/// A driver that accepts the first login of a pool and rejects the others, which take a while.
#[derive(Clone, Debug, Default)]
struct Driver {
    logins: Arc<AtomicUsize>,
    /// Number of logins at each verification.
    verifications: Arc<Mutex<Vec<usize>>>,
}

impl ManageConnection for Driver {
    type Connection = ();
    type Error = io::Error;

    async fn connect(&self) -> Result<(), io::Error> {
        if self.logins.fetch_add(1, Ordering::Relaxed) == 0 {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
        Err(io::ErrorKind::PermissionDenied.into())
    }

    async fn is_valid(&self, (): &mut ()) -> Result<(), io::Error> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

impl ManagerFactory for Driver {
    type Manager = Self;

    fn manager(&self, _: &Credentials) -> Result<Self, ConnectError> {
        Ok(self.clone())
    }

    async fn verify(&self, _: &Credentials) -> Result<(), ConnectError> {
        let logins = self.logins.load(Ordering::Relaxed);
        self.verifications.lock().expect("no panic").push(logins);
        Ok(())
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Rejected, error.to_string())
    }
}

#[tokio::test]
async fn each_rejected_login_before_publication_is_one_that_the_handover_counts() {
    let (supervisor, driver) = (Supervisor::start(), Driver::default());
    let credentials = supervisor.add_provider("login", ScriptedProvider::new());
    let credentials = credentials.await.expect("a lease");
    // One login alone, and then four at a time.
    let pools = Bb8Pools::new(driver.clone(), 16).with_min_connections(16);
    let adding = supervisor.add_pool("orders", &credentials, pools);
    let second_verification = async {
        loop {
            let verifications = driver.verifications.lock().expect("no panic").clone();
            if let [_, second, ..] = verifications[..] {
                return second;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let logins = async {
        tokio::select! {
            added = adding => added.map(|_| 0).expect("logins are rejected"),
            logins = second_verification => logins,
        }
    };
    let logins = timeout(Duration::from_secs(20), logins).await;
    assert_eq!(logins.expect("another attempt"), 1 + 4);
}
