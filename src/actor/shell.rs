//! The actor around a slot.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr};
use tracing::Span;

use super::mailbox::Wake;
use super::{RECONCILE_EVERY, Slot};

/// Shortest time between two reconciliations by the alarm, so that an error in this library cannot
/// make it spin.
const MIN_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Shell<T>(PhantomData<fn() -> T>);

impl<T> Shell<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

pub(super) struct State<T> {
    slot: Arc<T>,
    /// Wakes the actor at its next deadline. Re-armed each time; an interval would pile up missed
    /// ticks and outlive the actor.
    alarm: Option<JoinHandle<Result<(), MessagingErr<Wake>>>>,
}

impl<T> Drop for State<T> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
    }
}

impl<T: Slot> Actor for Shell<T> {
    type Msg = Wake;
    type State = State<T>;
    type Arguments = Arc<T>;

    async fn pre_start(
        &self,
        myself: ActorRef<Wake>,
        slot: Arc<T>,
    ) -> Result<State<T>, ActorProcessingErr> {
        slot.mailbox().started(myself);
        Ok(State { slot, alarm: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<Wake>,
        _: Wake,
        state: &mut State<T>,
    ) -> Result<(), ActorProcessingErr> {
        state.slot.mailbox().received();
        let _outside = OutsideSpan::leave();
        let next = state.slot.reconcile().map_or(RECONCILE_EVERY, |next| {
            next.clamp(MIN_PAUSE, RECONCILE_EVERY)
        });
        if let Some(alarm) = state.alarm.replace(myself.send_after(next, || Wake)) {
            alarm.abort();
        }
        Ok(())
    }
}

/// Leaves ractor's span `Actor` until it is dropped, so that log lines do not begin with it.
struct OutsideSpan(Span);

impl OutsideSpan {
    fn leave() -> Self {
        let span = Span::current();
        span.with_subscriber(|(id, dispatch)| dispatch.exit(id));
        Self(span)
    }
}

impl Drop for OutsideSpan {
    fn drop(&mut self) {
        self.0.with_subscriber(|(id, dispatch)| dispatch.enter(id));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use ractor::ActorRuntime;

    use super::*;
    use crate::actor::Mailbox;

    /// Slot that notes a change at the end of each of its first reconciliations.
    struct Noted {
        name: Arc<str>,
        mailbox: Mailbox,
        to_come: AtomicU32,
        noted: AtomicU32,
        seen: AtomicU32,
    }

    impl Slot for Noted {
        fn name(&self) -> &Arc<str> {
            &self.name
        }

        fn mailbox(&self) -> &Mailbox {
            &self.mailbox
        }

        fn reconcile(self: &Arc<Self>) -> Option<Duration> {
            self.seen
                .store(self.noted.load(Ordering::SeqCst), Ordering::SeqCst);
            if self.to_come.load(Ordering::SeqCst) > 0 {
                self.to_come.fetch_sub(1, Ordering::SeqCst);
                self.noted.fetch_add(1, Ordering::SeqCst);
                self.mailbox.wake();
            }
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_a_reconciliation_causes_another_one() {
        let slot = Arc::new(Noted {
            name: Arc::from("slot"),
            mailbox: Mailbox::default(),
            to_come: AtomicU32::new(10),
            noted: AtomicU32::default(),
            seen: AtomicU32::default(),
        });
        let (actor, _) =
            ActorRuntime::spawn_instant(None, Shell::new(), Arc::clone(&slot)).expect("a runtime");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            (
                slot.noted.load(Ordering::SeqCst),
                slot.seen.load(Ordering::SeqCst)
            ),
            (10, 10),
            "without a wait for the periodic reconciliation"
        );
        actor.stop(None);
    }
}
