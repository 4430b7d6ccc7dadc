//! The root actor: owns the others, starts them again within a budget, stops them in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent,
};

use super::Slot;
use super::budget::Restarts;
use super::shell::Shell;
use crate::context::Context;
use crate::events::Event;
use crate::lock::Mutex;

/// Time for an actor to stop. It never waits in a handler, so this is long.
const STOP: Duration = Duration::from_secs(1);

/// An actor that the root keeps running until it is stopped.
pub(crate) struct Child {
    name: Arc<str>,
    start: Box<dyn Fn(ActorCell) -> Option<ActorCell> + Send + Sync>,
    running: Mutex<Running>,
    /// Restarts, shared with the slot's mailbox, from which the status reads them.
    restarts: Arc<AtomicU64>,
    budget: Mutex<Restarts>,
}

#[derive(Default)]
struct Running {
    leaving: bool,
    actor: Option<ActorCell>,
}

impl Child {
    pub(crate) fn new<T: Slot>(slot: Arc<T>) -> Arc<Self> {
        let name = Arc::clone(slot.name());
        let restarts = slot.mailbox().restarted();
        let start = move |root: ActorCell| {
            ActorRuntime::spawn_linked_instant(None, Shell::<T>::new(), Arc::clone(&slot), root)
                .ok()
                .map(|(actor, _)| actor.get_cell())
        };
        Arc::new(Self {
            name,
            start: Box::new(start),
            running: Mutex::default(),
            restarts,
            budget: Mutex::default(),
        })
    }

    /// Stops it permanently. Resolves when it has ended, or after a second.
    pub(crate) async fn stop(&self) {
        let actor = {
            let mut running = self.running.lock();
            running.leaving = true;
            running.actor.take()
        };
        if let Some(actor) = actor {
            let _ = actor.stop_and_wait(None, Some(STOP)).await;
        }
    }

    /// Starts the actor, unless it is to stop.
    fn start(&self, root: ActorCell) -> Option<ActorId> {
        let mut running = self.running.lock();
        if running.leaving {
            return None;
        }
        running.actor = (self.start)(root);
        running.actor.as_ref().map(ActorCell::get_id)
    }

    /// Returns the number of restarts.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Acquire)
    }

    /// Returns whether it fails so often that it is restarted only once a minute.
    pub(crate) fn is_over_budget(&self, now: Instant) -> bool {
        self.budget.lock().is_over(now)
    }
}

/// The one message: start this actor, for the first time or again.
struct Start(Arc<Child>);

/// The address of the root actor.
#[derive(Clone, Debug)]
pub(crate) struct RootRef(ActorRef<Start>);

impl RootRef {
    /// Starts it; needs a tokio runtime.
    pub(crate) fn start(context: Context) -> Option<Self> {
        ActorRuntime::spawn_instant(
            None,
            RootActor,
            RootState {
                context,
                children: HashMap::new(),
            },
        )
        .ok()
        .map(|(actor, _)| Self(actor))
    }

    /// Starts a child and keeps it running. Returns `false` if the root is gone, and its runtime
    /// with it.
    pub(crate) fn adopt(&self, child: Arc<Child>) -> bool {
        self.0.cast(Start(child)).is_ok()
    }

    /// Stops the root, once its children are gone.
    pub(crate) async fn stop(&self) {
        let _ = self.0.stop_and_wait(None, Some(STOP)).await;
    }
}

struct RootActor;

struct RootState {
    context: Context,
    children: HashMap<ActorId, Arc<Child>>,
}

impl RootState {
    fn start(&mut self, root: &ActorRef<Start>, child: Arc<Child>) {
        if let Some(id) = child.start(root.get_cell()) {
            self.children.insert(id, child);
        }
    }
}

impl Actor for RootActor {
    type Msg = Start;
    type State = RootState;
    type Arguments = RootState;

    async fn pre_start(
        &self,
        _: ActorRef<Start>,
        state: RootState,
    ) -> Result<RootState, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Start>,
        Start(child): Start,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        state.start(&myself, child);
        Ok(())
    }

    /// ractor's default stops the supervisor when any child ends; here the child is started again,
    /// alone.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Start>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let (SupervisionEvent::ActorFailed(actor, _)
        | SupervisionEvent::ActorTerminated(actor, _, _)) = event
        else {
            return Ok(());
        };
        let Some(child) = state.children.remove(&actor.get_id()) else {
            return Ok(());
        };
        if child.running.lock().leaving {
            return Ok(());
        }
        let pause = child.budget.lock().failed(state.context.clock.mono());
        child.restarts.fetch_add(1, Ordering::AcqRel);
        tracing::error!(
            parent: None, actor = %child.name, pause = ?pause,
            "actor failed and is restarted with its state; queries are not affected"
        );
        state.context.meters.restarted(&child.name);
        state.context.events.send(Event::Restarted {
            actor: Arc::clone(&child.name),
        });
        if pause.is_zero() {
            state.start(&myself, child);
        } else {
            drop(myself.send_after(pause, move || Start(child)));
        }
        Ok(())
    }
}
