//! What a provider may return from a fetch, and what it does to pools.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, Revision, Timestamp};
use claviger::provider::{FetchRequest, Fetched};
use claviger::{Credentials, Lease, Provider, Supervisor, provider_fn};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};

#[tokio::test(start_paused = true)]
async fn a_registration_fails_when_there_is_no_current_lease_to_keep() {
    let lab = Lab::new();
    let unchanged = provider_fn(|_: FetchRequest<Credentials>| async {
        Ok::<_, ProviderError>(Fetched::Unchanged)
    });
    let error = lab.supervisor.add_provider("login", unchanged).await;
    let text = error.expect_err("there is no lease").to_string();
    assert!(text.contains("without a current lease"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn renewed_and_unchanged_leases_cause_no_handover() {
    let lab = Lab::new();
    let (backend, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let credentials = lab.supervisor.add_provider("login", backend.clone()).await;
    let credentials = credentials.expect("a lease");
    let pool = lab
        .supervisor
        .add_pool("pool", &credentials, database)
        .await;
    let pool = pool.expect("verified");
    let expiry = Expiry::after(Timestamp::now(), Duration::from_secs(7_200));
    for fetched in [Fetched::Renewed(expiry), Fetched::Unchanged] {
        let before = backend.calls().len();
        backend.return_next(fetched);
        backend.hint();
        while backend.calls().len() == before {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(pool.generation(), 1);
        let status = &lab.supervisor.status().providers[0];
        assert_eq!(status.expires, expiry.wall());
        assert!(status.last_error.is_none(), "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_reports_a_fetch_that_hangs_and_since_when() {
    let (lab, backend) = (Lab::new(), ScriptedProvider::new());
    lab.add_provider("login", backend.clone()).await;
    let status = || lab.supervisor.status().providers.remove(0);
    assert_eq!((status().hanging, status().hanging_since), (0, None));
    backend.stall();
    let began = Timestamp::now().wall();
    let error = lab.supervisor.rotate_now("login").await;
    error.expect_err("the fetch does not end");
    let since = status().hanging_since.expect("a fetch hangs");
    assert_eq!(status().hanging, 1);
    let off = since.duration_since(began).unwrap_or_default();
    assert!(off < Duration::from_secs(5), "{off:?} after the request");
    backend.resume();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((status().hanging, status().hanging_since), (0, None));
}

/// A backend whose releases block a thread for longer than the fetch deadline.
#[derive(Clone, Debug, Default)]
struct BlockingReleases {
    fetches: Arc<AtomicUsize>,
    releasing: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Provider for BlockingReleases {
    type Secret = Credentials;

    async fn fetch(
        &self,
        _: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let number = self.fetches.fetch_add(1, Ordering::SeqCst);
        let lease = Lease::new(
            Credentials::new("app", format!("password-{number}")),
            Revision::new(number.to_string()),
        );
        Ok(Fetched::New(lease))
    }

    async fn release(&self, _: Lease<Credentials>) -> Result<(), ProviderError> {
        let first = self.begun.fetch_add(1, Ordering::SeqCst) == 0;
        let releasing = self.releasing.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(releasing, Ordering::SeqCst);
        if first {
            std::thread::sleep(Duration::from_secs(6));
        }
        self.releasing.fetch_sub(1, Ordering::SeqCst);
        if first {
            Err(ProviderError::new(
                ProviderErrorKind::Unavailable,
                "the first attempt fails",
            ))
        } else {
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_release_that_blocks_its_thread_is_not_joined_by_a_second_one() {
    let builder = Supervisor::builder().with_fetch_deadline(Duration::from_millis(200));
    let lab = Lab::with_builder(builder).expect("valid settings");
    let backend = BlockingReleases::default();
    let credentials = lab.supervisor.add_provider("login", backend.clone()).await;
    let credentials = credentials.expect("a lease");
    let pools = ScriptedPools::new(4);
    lab.supervisor
        .add_pool("pool", &credentials, pools)
        .await
        .expect("verified");
    lab.supervisor.rotate_now("login").await.expect("rotated");
    let retried = || backend.begun.load(Ordering::SeqCst) == 2;
    tokio::time::timeout(Duration::from_secs(40), async {
        while !retried() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the release is tried again");
    assert_eq!(backend.most.load(Ordering::SeqCst), 1);
}
