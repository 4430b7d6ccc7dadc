#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use super::*;
use crate::error::ConnectErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU32};

type Count = Arc<AtomicU32>;

fn gate(max: u32, overlap: u32) -> (Arc<Gate<Count>>, Instant) {
    let gate = Gate::new(
        max,
        overlap,
        Arc::new(|pool: &Count| pool.load(Ordering::Acquire)),
    );
    gate.serves(Arc::from("a:5432"), None);
    (gate, tokio::time::Instant::now().into_std())
}

#[test]
fn old_and_new_stay_within_maximum_and_overlap() {
    let (gate, now) = gate(10, 2);
    let (old, new) = (Arc::new(AtomicU32::new(10)), Arc::new(AtomicU32::new(0)));
    assert!(gate.is_open());
    gate.drains(1, Arc::clone(&old));
    assert!(!gate.is_open());
    let first = gate.enter(&new, now);
    assert!(first.is_some());
    assert!(
        gate.enter(&new, now).is_none(),
        "one place is left for a verification"
    );
    let verification = gate.enter_verification(&new);
    assert!(verification.is_some());
    assert!(gate.enter_verification(&new).is_none());
    drop((first, verification));
    new.store(1, Ordering::Release);
    assert!(gate.enter(&new, now).is_none());
    old.store(9, Ordering::Release);
    assert!(gate.enter(&new, now).is_some());
    old.store(1, Ordering::Release);
    new.store(9, Ordering::Release);
    let last = gate.enter(&new, now);
    assert!(last.is_some());
    assert!(gate.enter(&new, now).is_none(), "the pool is full");
    drop(last);
    gate.drained(1);
    assert!(gate.is_open());
}

#[test]
fn old_connections_to_another_server_do_not_count() {
    let (gate, now) = gate(4, 1);
    let (old, new) = (Arc::new(AtomicU32::new(4)), Arc::new(AtomicU32::new(0)));
    gate.drains(1, Arc::clone(&old));
    gate.serves(Arc::from("b:5432"), None);
    assert!(gate.is_open());
    assert!(gate.enter(&new, now).is_some());
    // Back on the first server they count again.
    gate.drains(2, Arc::clone(&new));
    gate.serves(Arc::from("a:5432"), None);
    assert!(!gate.is_open());
    let one = gate.enter(&Arc::new(AtomicU32::new(0)), now);
    assert!(one.is_some());
    assert!(gate.enter(&Arc::new(AtomicU32::new(0)), now).is_none());
}

#[test]
fn limited_logins_end_with_the_window_or_the_first_success() {
    let (gate, now) = gate(10, 2);
    let pool = Arc::new(AtomicU32::new(0));
    let limited = Some((1, now + Duration::from_secs(30)));
    gate.serves(Arc::from("a:5432"), limited);
    let one = gate.enter(&pool, now);
    assert!(one.is_some());
    assert!(gate.enter(&pool, now).is_none());
    assert!(gate.enter(&pool, now + Duration::from_secs(30)).is_some());
    assert!(gate.is_open());
    gate.serves(Arc::from("a:5432"), limited);
    gate.opened(now);
    assert!(gate.is_open());
}

#[test]
fn the_first_login_after_a_rejection_goes_ahead_of_the_others() {
    let (gate, now) = gate(10, 2);
    let pool = Arc::new(AtomicU32::new(0));
    gate.lead(now);
    assert!(!gate.is_open());
    let first = gate.enter(&pool, now);
    assert!(first.is_some());
    assert!(gate.enter(&pool, now).is_none());
    drop(first);
    assert!(gate.is_open());
    // One that hangs holds nobody up for long.
    gate.lead(now);
    let _hangs = gate.enter(&pool, now);
    assert!(gate.enter(&pool, now + LEAD).is_some());
    assert!(gate.is_open());
}

#[test]
fn on_a_full_server_one_tries_for_all_with_back_off() {
    let (gate, start) = gate(10, 2);
    let pool = Arc::new(AtomicU32::new(0));
    let mut attempts = 0;
    gate.full(
        ConnectError::new(ConnectErrorKind::Overloaded, "too many connections"),
        start,
    );
    for millis in 0..30_000 {
        let now = start + Duration::from_millis(millis);
        if let Some(pass) = gate.enter(&pool, now) {
            attempts += 1;
            gate.full(
                ConnectError::new(ConnectErrorKind::Overloaded, "too many connections"),
                now,
            );
            drop(pass);
        }
    }
    assert!((12..=30).contains(&attempts), "{attempts} attempts in 30 s");
    assert!(gate.why_full(start + Duration::from_secs(30)).is_some());
    assert!(gate.why_full(start + Duration::from_secs(60)).is_none());
    assert!(gate.is_open());
}

/// The connections are counted by code that asks the gate itself, as a factory's may ask for the
/// status.
#[test]
fn connections_are_counted_under_no_lock_and_again_when_one_was_opened_meanwhile() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let now = tokio::time::Instant::now().into_std();
        let (old, new) = (Arc::new(AtomicU32::new(10)), Arc::new(AtomicU32::new(0)));
        let asked: Arc<std::sync::OnceLock<Arc<Gate<Count>>>> = Arc::default();
        let (own, counted, meanwhile) =
            (Arc::clone(&asked), Arc::clone(&new), AtomicBool::new(true));
        let gate = Gate::new(
            10,
            1,
            Arc::new(move |pool: &Count| {
                let connections = pool.load(Ordering::Acquire);
                if Arc::ptr_eq(pool, &counted) && meanwhile.swap(false, Ordering::AcqRel) {
                    let verification = own
                        .get()
                        .and_then(|gate| gate.enter_verification(pool))
                        .expect("there is room");
                    pool.fetch_add(1, Ordering::AcqRel);
                    drop(verification);
                }
                connections
            }),
        );
        let _ = asked.set(Arc::clone(&gate));
        gate.serves(Arc::from("a:5432"), None);
        gate.drains(1, Arc::clone(&old));
        let _ = done.send(gate.enter(&new, now).is_some());
    });
    let entered = ended
        .recv_timeout(Duration::from_secs(10))
        .expect("no lock is waited for");
    assert!(!entered, "the one that was opened meanwhile counts");
}
