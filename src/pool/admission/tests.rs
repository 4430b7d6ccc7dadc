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
fn with_an_overlap_of_one_a_rehearsal_waits_for_callers_that_queue_beside_old_connections() {
    let (admission, now) = admission(4, 1);
    let (old, new) = (Arc::new(AtomicU32::new(3)), Arc::new(AtomicU32::new(0)));
    admission.begin_drain(1, Arc::clone(&old));
    let queued = admission.join();
    assert!(admission.enter_rehearsal(&new).is_none());
    drop(queued);
    let rehearsal = admission.enter_rehearsal(&new);
    assert!(rehearsal.is_some());
    let caller = admission.enter(&new, now);
    assert!(caller.is_some());
    assert!(admission.enter(&new, now).is_none(), "all places are taken");
    drop(rehearsal);
    assert!(admission.enter(&new, now).is_some());
    // An overlap above 1 has a place that callers do not get.
    let (admission, _) = self::admission(10, 2);
    admission.begin_drain(1, old);
    let _queued = admission.join();
    assert!(admission.enter_rehearsal(&new).is_some());
}

#[test]
fn callers_log_in_beside_a_rehearsal_where_logins_are_limited() {
    let pool = Arc::new(AtomicU32::new(0));
    let one_at_a_time: [fn(&Admission<Count>, Instant); 3] = [
        |admission, now| admission.limit(1, now + Duration::from_secs(30)),
        |admission, now| admission.give_head_start(now),
        |admission, now| {
            let full = ConnectError::new(ConnectErrorKind::Overloaded, "too many connections");
            admission.note_full(full, now);
        },
    ];
    for limit in one_at_a_time {
        let (admission, start) = admission(10, 2);
        limit(&admission, start);
        let (now, rehearsal) = (start + HEAD_START / 2, admission.enter_rehearsal(&pool));
        assert!(rehearsal.is_some());
        let now = now
            + if admission.why_full(now).is_some() {
                2 * FULL_PAUSE
            } else {
                Duration::ZERO
            };
        let caller = admission.enter(&pool, now);
        assert!(caller.is_some(), "a rehearsal is no caller");
        drop(rehearsal);
        assert!(
            admission.enter(&pool, now).is_none(),
            "the caller still runs alone"
        );
    }
}

/// Callers, an attempt and a rehearsal open connections in any order, beside old connections or
/// none.
#[test]
fn law_10_callers_an_attempt_and_a_rehearsal_stay_within_maximum_and_overlap() {
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (max, overlap) = (rng.u32(1..6), rng.u32(1..4));
        let (admission, now) = admission(max, overlap.min(max));
        let most = max + overlap.min(max);
        let (old, new) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        if rng.bool() {
            old.store(rng.u32(0..=max), Ordering::Release);
            admission.begin_drain(1, Arc::clone(&old));
        } else if rng.bool() {
            admission.limit(max, now + Duration::from_secs(30));
        }
        let (mut callers, mut attempt, mut rehearsal) = (Vec::new(), None, None);
        for _ in 0..60 {
            match rng.u8(..8) {
                0 => attempt = None,
                1 => rehearsal = None,
                2 if attempt.is_none() => attempt = admission.enter_verification(&new),
                3 if rehearsal.is_none() => rehearsal = admission.enter_rehearsal(&new),
                // A login ends: its connection is in the pool.
                4 if callers.pop().is_some() => drop(new.fetch_add(1, Ordering::AcqRel)),
                5 if old.load(Ordering::Acquire) > 0 => drop(old.fetch_sub(1, Ordering::AcqRel)),
                _ if !admission.is_open() => callers.extend(admission.enter(&new, now)),
                _ if new.load(Ordering::Acquire) < max => drop(new.fetch_add(1, Ordering::AcqRel)),
                _ => {}
            }
            let pooled = old.load(Ordering::Acquire) + new.load(Ordering::Acquire);
            let others = usize::from(attempt.is_some()) + usize::from(rehearsal.is_some());
            let all = pooled as usize + callers.len() + others;
            assert!(all <= most as usize, "{all} of {most}, seed {seed}");
        }
    }
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

#[test]
fn another_server_does_not_count_as_full() {
    let (admission, start) = admission(10, 2);
    let full = || ConnectError::new(ConnectErrorKind::Overloaded, "too many connections");
    admission.set_current(1, Arc::from("a"), None);
    admission.note_full(full(), start);
    admission.set_current(2, Arc::from("a"), None);
    assert!(admission.why_full(start).is_some(), "the same server");
    admission.set_current(3, Arc::from("b"), None);
    assert!(admission.why_full(start).is_none() && admission.is_open());
}
