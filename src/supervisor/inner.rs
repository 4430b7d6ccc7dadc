//! The state of a supervisor.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;

use super::node::{PoolNode, ProviderNode};
use super::registry::Registry;
use crate::actor::RootRef;
use crate::context::Context;
use crate::id::Id;
use crate::lock::{Mutex, MutexGuard};
use crate::report::ShutdownReport;

/// State that the clones of a supervisor share.
pub(super) struct Inner {
    pub(super) id: Id,
    pub(super) context: Context,
    /// Runtime of all work. A caller's own runtime may end before the work.
    pub(super) runtime: Runtime,
    pub(super) root: Option<RootRef>,
    registry: Mutex<Registry>,
    pub(super) ending: watch::Sender<Ending>,
    pub(super) leaving: AtomicBool,
}

impl Inner {
    pub(super) fn new(context: Context, runtime: Runtime) -> Self {
        Self {
            id: Id::next(),
            root: RootRef::start(context.clone()),
            context,
            runtime,
            registry: Mutex::default(),
            ending: watch::Sender::new(Ending::Pending),
            leaving: AtomicBool::new(false),
        }
    }

    /// Returns all providers and pools, and whether a shutdown has begun.
    pub(super) fn registered(&self) -> (Vec<Arc<ProviderNode>>, Vec<Arc<PoolNode>>, bool) {
        let registry = self.lock();
        (registry.providers(), registry.pools(), registry.is_closed())
    }

    /// Moves the shutdown from one state to another. Returns whether it was in the first.
    pub(super) fn change_ending(&self, from: &Ending, to: Ending) -> bool {
        self.ending.send_if_modified(|ending| {
            let is_due = ending == from;
            if is_due {
                *ending = to;
            }
            is_due
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let registry = self.lock();
        let (providers, pools) = registry.names();
        let is_empty = providers.is_empty() && pools.is_empty();
        if !registry.is_closed() && !is_empty {
            tracing::warn!(
                providers,
                pools,
                "supervisor dropped without shutdown; its providers and pools still run"
            );
        }
    }
}

/// Progress of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not begun, or under way.
    Pending,
    /// Its runtime ended first.
    Lost,
    /// It has ended.
    Ended(ShutdownReport),
}
