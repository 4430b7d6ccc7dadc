//! Calls to a supervisor from another runtime, from none, and after its own was dropped.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use claviger::error::ErrorKind;
use claviger::report::ShutdownReport;
use claviger::{Revision, Supervisor};
use claviger_fixtures::{Scripted, eventually};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use tokio::runtime::{Builder, Runtime};

/// Bound on a shutdown.
const BOUND: Duration = Duration::from_secs(2);
/// Longer than any bound here; a call that takes longer hangs.
const HANGS: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Runs work on a thread of its own and returns its result. A call that never returns fails the
/// test instead of hanging it.
fn within<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || {
        let _ = done.send(work());
    });
    outcome
        .recv_timeout(HANGS)
        .unwrap_or_else(|_| unreachable!("never returned: {what}"))
}

/// Polls a future to its end without a runtime.
fn without_a_runtime<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
        thread::park();
    }
}

struct Service {
    supervisor: Supervisor,
    provider: ScriptedProvider,
    database: ScriptedPools,
}

/// Starts a provider `login` and a pool `orders` on this runtime.
fn service_on(runtime: &Runtime) -> Service {
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let supervisor = runtime.block_on(async {
        let supervisor = Supervisor::start();
        let credentials = supervisor
            .add_provider("login", provider.clone())
            .await
            .expect("a lease");
        supervisor
            .add_pool("orders", &credentials, database.clone())
            .await
            .expect("verified");
        supervisor
    });
    Service {
        supervisor,
        provider,
        database,
    }
}

fn shut_down_on(other: &Runtime, supervisor: &Supervisor) -> ShutdownReport {
    let supervisor = supervisor.clone();
    let handle = other.handle().clone();
    within("shutdown", move || {
        handle.block_on(supervisor.shutdown(BOUND))
    })
}

#[test]
fn a_shutdown_after_the_runtime_was_dropped_releases_the_leases() {
    let own = runtime();
    let service = service_on(&own);
    drop(own);
    let other = runtime();
    let report = shut_down_on(&other, &service.supervisor);
    assert_eq!(service.provider.released(), [Revision::new("1")]);
    assert!(report.unreleased.is_empty(), "{report:?}");
    assert_eq!(
        shut_down_on(&other, &service.supervisor),
        report,
        "one shutdown, one report"
    );
    let supervisor = service.supervisor.clone();
    assert!(
        within("events", move || without_a_runtime(async move {
            supervisor.events().next().await
        }))
        .is_none()
    );
}

#[test]
fn a_shutdown_continues_when_its_runtime_is_dropped() {
    let own = runtime();
    let service = service_on(&own);
    // A connection that is not returned delays the drain.
    let busy = service.database.connection();
    let other = runtime();
    let (supervisor, handle) = (service.supervisor.clone(), other.handle().clone());
    let ending =
        thread::spawn(move || handle.block_on(supervisor.shutdown(Duration::from_secs(10))));
    let closed = || service.database.opened()[0].is_closed();
    other.block_on(eventually("the drain has begun", closed));
    own.shutdown_background();
    let report = within("shutdown", move || ending.join().expect("no panic"));
    assert!(!report.clean && !report.abandoned.is_empty(), "{report:?}");
    assert_eq!(report.abandoned[0].connections, 1);
    drop(busy);
}

#[test]
fn a_shutdown_returns_when_its_runtime_is_not_driven() {
    let own = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let service = service_on(&own);
    let report = shut_down_on(&runtime(), &service.supervisor);
    assert!(!report.clean);
    let names: Vec<_> = report.unfinished.iter().map(|name| &**name).collect();
    assert_eq!(names, ["login", "orders"]);
    assert_eq!(report.unreleased, [(Arc::from("login"), 1)]);
    // Driven again, the runtime completes the shutdown.
    own.block_on(eventually("the lease is released", || {
        service.provider.released().len() == 1
    }));
}

#[test]
fn a_shutdown_outside_of_any_runtime_is_bounded() {
    let own = runtime();
    let service = service_on(&own);
    let supervisor = service.supervisor.clone();
    assert!(
        within("shutdown", move || without_a_runtime(
            supervisor.shutdown(BOUND)
        ))
        .clean,
        "its own runtime completes it"
    );
    let own = runtime();
    let service = service_on(&own);
    drop(own);
    let supervisor = service.supervisor.clone();
    let report = within("shutdown", move || {
        without_a_runtime(supervisor.shutdown(BOUND))
    });
    assert_eq!(
        (report.clean, report.unreleased),
        (false, vec![(Arc::from("login"), 1)])
    );
}

#[test]
fn a_removal_outlives_the_runtime_of_its_caller() {
    let own = runtime();
    let service = service_on(&own);
    let busy = service.database.connection();
    let temporary = runtime();
    let supervisor = service.supervisor.clone();
    temporary.spawn(async move { supervisor.remove_pool("orders").await });
    own.block_on(eventually("the drain has begun", || {
        service.database.opened()[0].is_closed()
    }));
    temporary.shutdown_background();
    let error = own
        .block_on(service.supervisor.remove_provider("login"))
        .expect_err("the hazard: the provider is in use");
    assert_eq!(error.kind(), ErrorKind::InUse);
    drop(busy);
    own.block_on(eventually("the provider has no pools", || {
        service.supervisor.status().providers[0].pools.is_empty()
    }));
    let temporary = runtime();
    let supervisor = service.supervisor.clone();
    temporary.spawn(async move { supervisor.remove_provider("login").await });
    own.block_on(eventually("the provider is removed", || {
        service.supervisor.status().providers.is_empty()
    }));
    temporary.shutdown_background();
    own.block_on(eventually("the lease is released", || {
        service.provider.released() == [Revision::new("1")]
    }));
}

#[test]
fn a_removal_runs_on_the_caller_s_runtime_after_its_own_is_gone() {
    let own = runtime();
    let service = service_on(&own);
    drop(own);
    let supervisor = service.supervisor.clone();
    let error = within("remove_pool", move || {
        without_a_runtime(supervisor.remove_pool("orders"))
    })
    .expect_err("there is no runtime");
    assert_eq!(error.kind(), ErrorKind::NoRuntime);

    let own = runtime();
    let service = service_on(&own);
    drop(own);
    let (other, supervisor) = (runtime(), service.supervisor.clone());
    let removed = within("remove", move || {
        other.block_on(async {
            supervisor.remove_pool("orders").await?;
            supervisor.remove_provider("login").await
        })
    });
    removed.expect("both are removed");
    assert_eq!(service.provider.released(), [Revision::new("1")]);
}

#[test]
fn a_provider_s_hints_outlive_the_runtime_of_its_registration() {
    let own = runtime();
    let supervisor = own.block_on(async { Supervisor::start() });
    let provider = ScriptedProvider::new();
    let temporary = runtime();
    let credentials = temporary
        .block_on(supervisor.add_provider("login", provider.clone()))
        .expect("a lease");
    temporary.shutdown_background();
    let fetched = provider.calls().len();
    provider.rotate();
    provider.hint();
    own.block_on(eventually("the hint causes a fetch", || {
        provider.calls().len() > fetched
    }));
    drop(credentials);
}

#[test]
fn a_registration_after_the_runtime_was_dropped_is_an_error() {
    let own = runtime();
    let service = service_on(&own);
    let other = runtime();
    drop(own);
    let error = other
        .block_on(
            service
                .supervisor
                .add_provider("more", ScriptedProvider::new()),
        )
        .expect_err("there is no runtime");
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[test]
fn without_a_runtime_a_waiting_call_returns_an_error() {
    let own = runtime();
    let service = service_on(&own);
    let supervisor = &service.supervisor;
    let errors = [
        without_a_runtime(supervisor.add_provider("more", ScriptedProvider::new()))
            .map(drop)
            .expect_err("no timer"),
        without_a_runtime(supervisor.rotate_now("login"))
            .map(drop)
            .expect_err("no timer"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NoRuntime);
        assert!(error.to_string().starts_with("no tokio runtime"), "{error}");
    }
    assert_eq!(
        supervisor.status().providers.len(),
        1,
        "nothing stays registered"
    );
}

#[test]
fn a_start_outside_of_a_runtime_panics_at_the_line_of_the_caller() {
    let error = Supervisor::builder()
        .start()
        .expect_err("there is no runtime");
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert!(error.to_string().starts_with("no tokio runtime"), "{error}");

    let (place, places) = mpsc::channel();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = place.send(panic.location().map(|at| at.file().to_owned()));
    }));
    let message = catch_unwind(|| drop(Supervisor::start())).expect_err("start panics");
    std::panic::set_hook(before);
    assert!(
        message
            .downcast_ref::<String>()
            .is_some_and(|message| message.starts_with("no tokio runtime"))
    );
    let place = places
        .try_recv()
        .expect("the hook ran")
        .expect("a location");
    assert!(
        place.ends_with("runtimes.rs"),
        "the caller's line, and not {place}"
    );
}

#[test]
fn a_removal_finishes_work_that_a_dropped_runtime_left_unfinished() {
    for stuck_in in ["a drain", "a verification", "a fetch"] {
        let first = Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let second = Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let provider = ScriptedProvider::new();
        let (lab, connection, database) = first.block_on(async {
            let builder = Supervisor::builder()
                .with_drain_deadline(Duration::from_secs(2))
                .with_fetch_deadline(Duration::from_secs(2));
            let lab = Lab::with_builder(builder).expect("the durations are right");
            let Scripted {
                lab,
                database,
                pool,
                ..
            } = Scripted::in_lab(lab, provider.clone(), ScriptedPools::new(4)).await;
            let connection = database.connection();
            match stuck_in {
                "a verification" => database.stall(),
                "a fetch" => provider.stall(),
                _ => {}
            }
            provider.rotate();
            provider.hint();
            let is_stuck = || match stuck_in {
                "a drain" => pool
                    .status()
                    .is_some_and(|status| !status.draining.is_empty()),
                "a fetch" => lab
                    .supervisor
                    .status()
                    .providers
                    .iter()
                    .any(|provider| provider.fetching),
                _ => provider.calls().len() > 1,
            };
            eventually("the work hangs", is_stuck).await;
            (lab, connection, database)
        });
        first.shutdown_background();
        drop(connection);
        database.resume();
        second.block_on(async {
            lab.supervisor
                .remove_pool("orders")
                .await
                .expect("the pool is removed");
            lab.supervisor
                .remove_provider("login")
                .await
                .expect(stuck_in);
            assert!(
                !provider.released().is_empty(),
                "{stuck_in}: leases are released"
            );
        });
    }
}
