#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use super::*;
use crate::error::ConnectErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU32};

type Count = Arc<AtomicU32>;

fn admission(max: u32, overlap: u32) -> (Arc<Admission<Count>>, Instant) {
    let admission = Admission::new(
        max,
        overlap,
        Arc::new(|pool: &Count| pool.load(Ordering::Acquire)),
    );
    admission.set_current(1, Arc::from("a:5432"), None);
    (admission, tokio::time::Instant::now().into_std())
}

#[test]
fn old_and_new_stay_within_maximum_and_overlap() {
    let (admission, now) = admission(10, 2);
    let (old, new) = (Arc::new(AtomicU32::new(10)), Arc::new(AtomicU32::new(0)));
    assert!(admission.is_open());
    admission.begin_drain(1, Arc::clone(&old));
    assert!(!admission.is_open());
    let first = admission.enter(&new, now);
    assert!(first.is_some());
    assert!(
        admission.enter(&new, now).is_none(),
        "one place is left for a verification"
    );
    let verification = admission.enter_verification(&new);
    assert!(verification.is_some());
    assert!(admission.enter_verification(&new).is_none());
    drop((first, verification));
    new.store(1, Ordering::Release);
    assert!(admission.enter(&new, now).is_none());
    old.store(9, Ordering::Release);
    assert!(admission.enter(&new, now).is_some());
    old.store(1, Ordering::Release);
    new.store(9, Ordering::Release);
    let last = admission.enter(&new, now);
    assert!(last.is_some());
    assert!(admission.enter(&new, now).is_none(), "the pool is full");
    drop(last);
    admission.end_drain(1);
    assert!(admission.is_open());
}

#[test]
fn old_connections_to_another_server_do_not_count() {
    let (admission, now) = admission(4, 1);
    let (old, new) = (Arc::new(AtomicU32::new(4)), Arc::new(AtomicU32::new(0)));
    admission.begin_drain(1, Arc::clone(&old));
    admission.set_current(1, Arc::from("b:5432"), None);
    assert!(admission.is_open());
    assert!(admission.enter(&new, now).is_some());
    // Back on the first server they count again.
    admission.begin_drain(2, Arc::clone(&new));
    admission.set_current(1, Arc::from("a:5432"), None);
    assert!(!admission.is_open());
    let one = admission.enter(&Arc::new(AtomicU32::new(0)), now);
    assert!(one.is_some());
    assert!(admission.enter(&Arc::new(AtomicU32::new(0)), now).is_none());
}

#[test]
fn limited_logins_end_with_the_window_or_the_first_success() {
    let (admission, now) = admission(10, 2);
    let pool = Arc::new(AtomicU32::new(0));
    let limited = Some((1, now + Duration::from_secs(30)));
    admission.set_current(1, Arc::from("a:5432"), limited);
    let one = admission.enter(&pool, now);
    assert!(one.is_some());
    assert!(admission.enter(&pool, now).is_none());
    assert!(
        admission
            .enter(&pool, now + Duration::from_secs(30))
            .is_some()
    );
    assert!(admission.is_open());

    // A success ends the limit where the budget has enough left for a quarter of the pool.
    for (width, is_open) in [(3, true), (2, false)] {
        let limited = Some((width, now + Duration::from_secs(30)));
        admission.set_current(1, Arc::from("a:5432"), limited);
        // A login of an earlier generation does not count.
        admission.note_opened(0, now);
        assert!(!admission.is_open());
        admission.note_opened(1, now);
        assert_eq!(admission.is_open(), is_open, "{width}");
    }
}

#[test]
fn the_first_login_after_a_rejection_goes_ahead_of_the_others() {
    let (admission, now) = admission(10, 2);
    let pool = Arc::new(AtomicU32::new(0));
    admission.give_head_start(now);
    assert!(!admission.is_open());
    let first = admission.enter(&pool, now);
    assert!(first.is_some());
    assert!(admission.enter(&pool, now).is_none());
    drop(first);
    assert!(admission.is_open());
    // A login that hangs delays the others only briefly.
    admission.give_head_start(now);
    let _hangs = admission.enter(&pool, now);
    assert!(admission.enter(&pool, now + HEAD_START).is_some());
    assert!(admission.is_open());
}

#[test]
fn on_a_full_server_one_caller_at_a_time_tries_with_back_off() {
    let (admission, start) = admission(10, 2);
    let pool = Arc::new(AtomicU32::new(0));
    let mut attempts = 0;
    admission.note_full(
        ConnectError::new(ConnectErrorKind::Overloaded, "too many connections"),
        start,
    );
    for millis in 0..30_000 {
        let now = start + Duration::from_millis(millis);
        if let Some(permit) = admission.enter(&pool, now) {
            attempts += 1;
            admission.note_full(
                ConnectError::new(ConnectErrorKind::Overloaded, "too many connections"),
                now,
            );
            drop(permit);
        }
    }
    assert!((12..=30).contains(&attempts), "{attempts} attempts in 30 s");
    assert!(
        admission
            .why_full(start + Duration::from_secs(30))
            .is_some()
    );
    assert!(
        admission
            .why_full(start + Duration::from_secs(60))
            .is_none()
    );
    assert!(admission.is_open());
}

/// Connections are counted by code that uses the admission control itself, because a factory may
/// request the status.
#[test]
fn connections_are_counted_without_a_lock_and_again_after_a_change() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let now = tokio::time::Instant::now().into_std();
        let (old, new) = (Arc::new(AtomicU32::new(10)), Arc::new(AtomicU32::new(0)));
        let shared: Arc<std::sync::OnceLock<Arc<Admission<Count>>>> = Arc::default();
        let (own, counted, meanwhile) =
            (Arc::clone(&shared), Arc::clone(&new), AtomicBool::new(true));
        let admission = Admission::new(
            10,
            1,
            Arc::new(move |pool: &Count| {
                let connections = pool.load(Ordering::Acquire);
                if Arc::ptr_eq(pool, &counted) && meanwhile.swap(false, Ordering::AcqRel) {
                    let verification = own
                        .get()
                        .and_then(|admission| admission.enter_verification(pool))
                        .expect("there is room");
                    pool.fetch_add(1, Ordering::AcqRel);
                    drop(verification);
                }
                connections
            }),
        );
        let _ = shared.set(Arc::clone(&admission));
        admission.set_current(1, Arc::from("a:5432"), None);
        admission.begin_drain(1, Arc::clone(&old));
        let _ = sender.send(admission.enter(&new, now).is_some());
    });
    let entered = receiver
        .recv_timeout(Duration::from_secs(10))
        .expect("no lock is waited for");
    assert!(!entered, "the connection opened meanwhile counts");
}
