//! What is registered, whatever its types.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::actor::Child;
use crate::error::{Error, ErrorKind};
use crate::lock::Mutex;
use crate::pool::{Keeper, PoolFactory, PoolSlot};
use crate::provider::{ManualRequest, ProviderSlot, SlotId, spawn_watch};
use crate::status::{PoolStatus, ProviderStatus};

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A provider, whatever its secret.
pub(super) trait ProviderEntry: Send + Sync {
    fn status(&self) -> ProviderStatus;
    fn child(&self) -> &Arc<Child>;
    /// Whether it is the one with this slot: another may have had its name.
    fn has(&self, slot: SlotId) -> bool;
    fn pools(&self) -> Vec<Arc<str>>;
    fn request(&self, request: ManualRequest);
    fn next_settled(&self) -> Boxed<()>;
    fn stop_fetching(&self);
    fn idle(&self) -> Boxed<()>;
    /// Releases everything, then closes the provider and stops its actor. Answers how many leases
    /// could not be released in time.
    fn close(&self, deadline: Instant) -> Boxed<usize>;
}

/// A pool, whatever its kind.
pub(super) trait PoolEntry: Send + Sync {
    fn status(&self) -> PoolStatus;
    /// Returns whether logins with the active credentials fail of an unknown cause.
    fn is_unexplained(&self) -> bool;
    fn child(&self) -> &Arc<Child>;
    fn retire(&self);
    fn idle(&self) -> Boxed<()>;
    fn drained(&self) -> Boxed<()>;
    fn undrained(&self) -> Vec<(u64, u32)>;
    /// Stops its actor; nothing of it uses a lease any more.
    fn stop(&self) -> Boxed<()>;
}

pub(super) struct ProviderOf<S: Send + Sync + 'static> {
    pub(super) slot: Arc<ProviderSlot<S>>,
    child: Arc<Child>,
    watch: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Send + Sync + 'static> ProviderOf<S> {
    pub(super) fn new(slot: Arc<ProviderSlot<S>>) -> Arc<Self> {
        let watch = spawn_watch(&slot);
        Arc::new(Self {
            child: Child::new(Arc::clone(&slot)),
            slot,
            watch: Mutex::new(Some(watch)),
        })
    }
}

pub(super) struct PoolOf<F: PoolFactory> {
    pub(super) slot: Arc<PoolSlot<F>>,
    child: Arc<Child>,
}

impl<F: PoolFactory> PoolOf<F> {
    pub(super) fn new(slot: Arc<PoolSlot<F>>) -> Arc<Self> {
        Arc::new(Self {
            child: Child::new(Arc::clone(&slot)),
            slot,
        })
    }
}

/// How long an actor may take to stop. It never waits in a handler, so this is long.
const STOP: Duration = Duration::from_secs(1);

impl<S: Send + Sync + 'static> ProviderEntry for ProviderOf<S> {
    fn status(&self) -> ProviderStatus {
        self.slot.status(self.child.restarts())
    }

    fn child(&self) -> &Arc<Child> {
        &self.child
    }

    fn has(&self, slot: SlotId) -> bool {
        self.slot.id() == slot
    }

    fn pools(&self) -> Vec<Arc<str>> {
        self.slot
            .subscribers()
            .iter()
            .map(|pool| Arc::clone(pool.name()))
            .collect()
    }

    fn request(&self, request: ManualRequest) {
        self.slot.request(request);
    }

    fn next_settled(&self) -> Boxed<()> {
        Box::pin(self.slot.next_settled())
    }

    fn stop_fetching(&self) {
        self.slot.stop_fetching();
    }

    fn idle(&self) -> Boxed<()> {
        let slot = Arc::clone(&self.slot);
        Box::pin(async move { slot.idle().await })
    }

    fn close(&self, deadline: Instant) -> Boxed<usize> {
        let (slot, child) = (Arc::clone(&self.slot), Arc::clone(&self.child));
        let watch = self.watch.lock().take();
        Box::pin(async move {
            let left = slot.close(deadline).await;
            let deadline = tokio::time::Instant::from_std(deadline);
            if let Some(watch) = watch {
                watch.abort();
            }
            // A bound that is used up still leaves the provider a moment to let go of what it
            // holds.
            let closing = slot.clone();
            let at_least = tokio::time::Instant::now() + Duration::from_millis(100);
            let task = tokio::spawn(async move { closing.provider().close().await });
            let _ = tokio::time::timeout_at(deadline.max(at_least), task).await;
            child.stop(STOP).await;
            left
        })
    }
}

impl<F: PoolFactory> PoolEntry for PoolOf<F> {
    fn status(&self) -> PoolStatus {
        Keeper::status(&*self.slot)
    }

    fn is_unexplained(&self) -> bool {
        self.slot.is_unexplained()
    }

    fn child(&self) -> &Arc<Child> {
        &self.child
    }

    fn retire(&self) {
        self.slot.retire();
    }

    fn idle(&self) -> Boxed<()> {
        let slot = Arc::clone(&self.slot);
        Box::pin(async move { slot.idle().await })
    }

    fn drained(&self) -> Boxed<()> {
        let slot = Arc::clone(&self.slot);
        Box::pin(async move { slot.drained().await })
    }

    fn undrained(&self) -> Vec<(u64, u32)> {
        self.slot.undrained()
    }

    fn stop(&self) -> Boxed<()> {
        let (slot, child) = (Arc::clone(&self.slot), Arc::clone(&self.child));
        Box::pin(async move {
            child.stop(STOP).await;
            slot.leave();
        })
    }
}

/// Everything that is registered, by name.
#[derive(Default)]
pub(crate) struct Registry {
    closed: bool,
    providers: BTreeMap<Arc<str>, Arc<dyn ProviderEntry>>,
    pools: BTreeMap<Arc<str>, Arc<dyn PoolEntry>>,
    /// Removed, and not drained yet.
    leaving: Vec<Arc<dyn PoolEntry>>,
}

impl Registry {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is registered any more. Answers whether this call closed it.
    pub(super) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }

    pub(super) fn providers(&self) -> Vec<Arc<dyn ProviderEntry>> {
        self.providers.values().cloned().collect()
    }

    pub(super) fn pools(&self) -> Vec<Arc<dyn PoolEntry>> {
        self.pools.values().cloned().collect()
    }

    pub(super) fn provider(&self, name: &str) -> Result<Arc<dyn ProviderEntry>, Error> {
        self.check_open()?;
        self.providers
            .get(name)
            .cloned()
            .ok_or_else(|| unknown("provider", name, self.providers.keys()))
    }

    /// Whether a pool of that name may be added.
    pub(super) fn check_pool(&self, name: &str) -> Result<(), Error> {
        self.check_open()?;
        check_name("pool name", name)?;
        if self.pools.contains_key(name) {
            return Err(Error::new(
                ErrorKind::AlreadyRegistered,
                format!("a pool named {name:?} exists; choose another name, or remove it first"),
            ));
        }
        Ok(())
    }

    pub(super) fn check_provider(&self, name: &str) -> Result<(), Error> {
        self.check_open()?;
        check_name("provider name", name)?;
        if self.providers.contains_key(name) {
            return Err(Error::new(
                ErrorKind::AlreadyRegistered,
                format!(
                    "a provider named {name:?} exists; choose another name, or remove it first"
                ),
            ));
        }
        Ok(())
    }

    pub(super) fn add_provider(&mut self, name: Arc<str>, entry: Arc<dyn ProviderEntry>) {
        self.providers.insert(name, entry);
    }

    pub(super) fn add_pool(&mut self, name: Arc<str>, entry: Arc<dyn PoolEntry>) {
        self.pools.insert(name, entry);
    }

    /// Everything that has connections or may open some.
    pub(super) fn pools_and_leaving(&self) -> Vec<Arc<dyn PoolEntry>> {
        self.pools.values().chain(&self.leaving).cloned().collect()
    }

    /// Its name is free; it is known until it has [left](Self::left).
    pub(super) fn take_pool(&mut self, name: &str) -> Result<Arc<dyn PoolEntry>, Error> {
        self.check_open()?;
        let pool = self
            .pools
            .remove(name)
            .ok_or_else(|| unknown("pool", name, self.pools.keys()))?;
        self.leaving.push(Arc::clone(&pool));
        Ok(pool)
    }

    /// As [`take_pool`](Self::take_pool), of this very pool: another may have its name by now.
    pub(super) fn take_this_pool(&mut self, pool: &Arc<dyn PoolEntry>) -> bool {
        // By identity: its status would run a factory's code under the lock.
        let name = self
            .pools
            .iter()
            .find(|(_, one)| Arc::ptr_eq(one, pool))
            .map(|(name, _)| Arc::clone(name));
        let here = !self.closed && name.is_some_and(|name| self.pools.remove(&name).is_some());
        if here {
            self.leaving.push(Arc::clone(pool));
        }
        here
    }

    /// As [`take_provider`](Self::take_provider), of this very provider, if it has no pools.
    pub(super) fn take_this_provider(&mut self, provider: &Arc<dyn ProviderEntry>) -> bool {
        let name = provider.status().name;
        let here = !self.closed
            && self
                .providers
                .get(&name)
                .is_some_and(|one| Arc::ptr_eq(one, provider))
            && provider.pools().is_empty();
        if here {
            self.providers.remove(&name);
        }
        here
    }

    /// It has drained.
    pub(super) fn left(&mut self, pool: &Arc<dyn PoolEntry>) {
        self.leaving.retain(|one| !Arc::ptr_eq(one, pool));
    }

    pub(super) fn take_provider(&mut self, name: &str) -> Result<Arc<dyn ProviderEntry>, Error> {
        let pools = self.provider(name)?.pools();
        if !pools.is_empty() {
            return Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "provider {name:?} serves the pools {}; remove them first",
                    pools.join(", ")
                ),
            ));
        }
        self.providers
            .remove(name)
            .ok_or_else(|| unknown("provider", name, self.providers.keys()))
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed {
            Err(Error::shut_down())
        } else {
            Ok(())
        }
    }
}

fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n Arc<str>>) -> Error {
    let known = known
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let known = if known.is_empty() {
        "none is".to_owned()
    } else {
        format!("registered: {known}")
    };
    Error::new(
        ErrorKind::NotRegistered,
        format!("no {what} is named {name:?}; {known}"),
    )
}

/// Names appear in logs, spans and metrics.
fn check_name(field: &str, name: &str) -> Result<(), Error> {
    if name.trim().is_empty() {
        return Err(Error::invalid(
            field,
            "is empty; give a name to find it by in logs and traces",
        ));
    }
    if name.len() > 200 || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            "is longer than 200 bytes or has control characters; give a short printable name",
        ));
    }
    Ok(())
}
