//! The actor around a slot.

use std::marker::PhantomData;
use std::sync::Arc;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr};

use super::mailbox::Look;
use super::{HEARTBEAT, Slot};

pub(super) struct Shell<T>(PhantomData<fn() -> T>);

impl<T> Shell<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

pub(super) struct State<T> {
    slot: Arc<T>,
    /// When to look without being asked. Re-armed each turn; an interval would pile up missed ticks and outlive the actor.
    alarm: Option<JoinHandle<Result<(), MessagingErr<Look>>>>,
}

impl<T> Drop for State<T> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
    }
}

impl<T: Slot> Actor for Shell<T> {
    type Msg = Look;
    type State = State<T>;
    type Arguments = Arc<T>;

    async fn pre_start(&self, myself: ActorRef<Look>, slot: Arc<T>) -> Result<State<T>, ActorProcessingErr> {
        slot.mailbox().move_in(myself);
        Ok(State { slot, alarm: None })
    }

    async fn handle(&self, myself: ActorRef<Look>, _: Look, state: &mut State<T>) -> Result<(), ActorProcessingErr> {
        state.slot.mailbox().taken();
        let next = state.slot.turn().map_or(HEARTBEAT, |next| next.min(HEARTBEAT));
        if let Some(alarm) = state.alarm.replace(myself.send_after(next, || Look)) {
            alarm.abort();
        }
        Ok(())
    }
}
