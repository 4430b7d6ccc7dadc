//! What a provider may return from a fetch, and what it does to pools.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::ProviderError;
use claviger::lease::{Expiry, Timestamp};
use claviger::provider::{FetchRequest, Fetched};
use claviger::{Credentials, provider_fn};
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
async fn renewed_and_unchanged_leases_lead_to_no_handover() {
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
