//! Requests that the server receives, counted in the proxy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_servers::InjectedFault;
use claviger_vault_fixtures::{ORDERS, Revocation, next_generation};
use tokio::sync::Barrier;

use crate::service::Service;

impl Service {
    fn received_requests(&self) -> BTreeMap<String, usize> {
        self.fixture
            .proxy
            .log()
            .into_iter()
            .fold(BTreeMap::new(), |mut counted, request| {
                *counted.entry(request.operation).or_default() += 1;
                counted
            })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_cost_no_request_and_half_a_lifetime_costs_one() {
    // A ttl of 10 s is renewed after 5 to 6 s.
    let service = Service::start(10, 3_600, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    let renewals = || service.fixture.requests_to("sys/leases/renew");
    claviger_fixtures::eventually_within(
        Duration::from_secs(60),
        "it is renewed three times",
        || renewals() >= 3,
    )
    .await;
    let tally = callers.stop().await;
    assert!(tally.succeeded > 500, "{} succeeded", tally.succeeded);
    assert_eq!(tally.failed, Vec::<String>::new());
    let expected = [
        ("/v1/auth/approle/login", 1),
        ("/v1/database/creds/orders", 1),
        ("/v1/sys/leases/renew", renewals()),
    ];
    assert_eq!(
        service.received_requests(),
        expected
            .map(|(path, count)| (path.to_owned(), count))
            .into()
    );
    let log = service.fixture.proxy.log();
    let at: Vec<_> = log
        .iter()
        .filter(|request| request.operation.ends_with("renew"))
        .map(|request| request.received_at)
        .collect();
    assert!(
        at.windows(2)
            .all(|pair| pair[1] - pair[0] > Duration::from_secs(4)),
        "a renewal for half a ttl"
    );
    service.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_rejections_is_one_fetch() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    service.fixture.revoke_first_lease().await;
    let before = service.received_requests();
    let barrier = Arc::new(Barrier::new(500));
    let callers: Vec<_> = (0..500)
        .map(|_| {
            let (db, barrier) = (service.db.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                // A connection of the dropped user was terminated by the server.
                match sqlx::query(ORDERS).execute(&db).await {
                    Ok(_) => Ok(true),
                    Err(sqlx::Error::Io(_)) => Ok(false),
                    Err(sqlx::Error::Database(error))
                        if error.code().as_deref() == Some("57P01") =>
                    {
                        Ok(false)
                    }
                    Err(error) => Err(error.to_string()),
                }
            })
        })
        .collect();
    let mut succeeded = 0;
    for caller in callers {
        succeeded += usize::from(
            caller
                .await
                .expect("no panic")
                .expect("it succeeds, or was cut off"),
        );
    }
    assert!(succeeded >= 492, "{succeeded} succeeded");
    assert_eq!(
        service.db.generation(),
        2,
        "the hazard: the first user is rejected"
    );
    let (creds, after) = ("/v1/database/creds/orders", service.received_requests());
    assert_eq!(after[creds], before[creds] + 1);
    service.fixture.wait_for_one_lease().await;
    service.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_receives_ever_fewer_requests() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    service.fixture.proxy.fault(InjectedFault::reply(
        503,
        r#"{"errors":["Vault is sealed"]}"#,
    ));
    let before = service.fixture.proxy.log().len();
    // The user is rejected and cannot be replaced.
    service.fixture.revoke_first_lease().await;
    let callers = service.callers(ORDERS);
    let seconds = 25;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let requests = service.fixture.proxy.log().len() - before;
    assert!(requests >= 3, "the hazard: {requests} requests");
    assert!(
        requests as u64 <= 3 + seconds / 10 + 1,
        "{requests} requests in {seconds} s"
    );
    assert!(callers.failures() > 0, "callers get an error");
    service.fixture.proxy.heal();
    next_generation(&service.db, 1).await;
    callers.wait_for_more(50).await;
    callers.stop().await;
    service.fixture.wait_for_one_lease().await;
    service.shutdown_and_check().await;
}
