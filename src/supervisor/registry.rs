//! Everything that is registered, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::{PoolNode, ProviderNode};
use super::validate;
use crate::error::{Error, ErrorKind};

/// Everything that is registered, by name.
#[derive(Default)]
pub(crate) struct Registry {
    closed: bool,
    providers: BTreeMap<Arc<str>, Arc<ProviderNode>>,
    pools: BTreeMap<Arc<str>, Arc<PoolNode>>,
    /// Removed pools that have not drained yet.
    leaving: Vec<Arc<PoolNode>>,
}

impl Registry {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Prevents further registrations. Returns whether this call closed the registry.
    pub(super) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }

    pub(super) fn providers(&self) -> Vec<Arc<ProviderNode>> {
        self.providers.values().cloned().collect()
    }

    pub(super) fn pools(&self) -> Vec<Arc<PoolNode>> {
        self.pools.values().cloned().collect()
    }

    pub(super) fn provider(&self, name: &str) -> Result<Arc<ProviderNode>, Error> {
        self.check_open()?;
        self.providers.get(name).cloned().ok_or_else(|| {
            let error = unknown("provider", name, self.providers.keys());
            match self.pools.get(name) {
                Some(pool) => error.with_hint(&format!(
                    "{name:?} is a pool of provider {:?}",
                    pool.slot.provider()
                )),
                None => error,
            }
        })
    }

    pub(super) fn pool(&self, name: &str) -> Result<Arc<PoolNode>, Error> {
        self.check_open()?;
        self.pools
            .get(name)
            .cloned()
            .ok_or_else(|| unknown("pool", name, self.pools.keys()))
    }

    /// Checks that a pool of that name may be added.
    pub(super) fn check_pool(&self, name: &str) -> Result<(), Error> {
        self.check("pool", name, self.pools.contains_key(name))
    }

    /// Checks that a provider of that name may be added.
    pub(super) fn check_provider(&self, name: &str) -> Result<(), Error> {
        self.check("provider", name, self.providers.contains_key(name))
    }

    fn check(&self, kind: &str, name: &str, taken: bool) -> Result<(), Error> {
        self.check_open()?;
        validate::name(&format!("{kind} name"), name)?;
        if taken {
            return Err(Error::new(
                ErrorKind::AlreadyRegistered,
                format!("a {kind} named {name:?} exists; choose another name, or remove it first"),
            ));
        }
        Ok(())
    }

    pub(super) fn add_provider(&mut self, node: Arc<ProviderNode>) {
        self.providers.insert(Arc::clone(&node.name), node);
    }

    pub(super) fn add_pool(&mut self, node: Arc<PoolNode>) {
        self.pools.insert(Arc::clone(&node.name), node);
    }

    /// Returns all pools that have connections or may open some.
    pub(super) fn pools_and_leaving(&self) -> Vec<Arc<PoolNode>> {
        self.pools.values().chain(&self.leaving).cloned().collect()
    }

    /// Removes a pool and frees its name. It stays in the registry until it has drained.
    pub(super) fn take_pool(&mut self, name: &str) -> Result<Arc<PoolNode>, Error> {
        self.check_open()?;
        let pool = self
            .pools
            .remove(name)
            .ok_or_else(|| unknown("pool", name, self.pools.keys()))?;
        self.leaving.push(Arc::clone(&pool));
        Ok(pool)
    }

    /// Removes this pool, unless another has its name by now.
    pub(super) fn take_this_pool(&mut self, pool: &PoolNode) -> bool {
        self.pools
            .get(&pool.name)
            .is_some_and(|one| one.id == pool.id)
            && self.take_pool(&pool.name).is_ok()
    }

    /// Removes this provider if it has no pools, unless another has its name by now.
    pub(super) fn take_this_provider(&mut self, provider: &ProviderNode) -> bool {
        self.providers
            .get(&provider.name)
            .is_some_and(|one| one.id == provider.id)
            && self.take_provider(&provider.name).is_ok()
    }

    /// Forgets a pool that has drained.
    pub(super) fn forget_drained_pool(&mut self, pool: &PoolNode) {
        self.leaving.retain(|one| one.id != pool.id);
    }

    pub(super) fn take_provider(&mut self, name: &str) -> Result<Arc<ProviderNode>, Error> {
        let provider = self.provider(name)?;
        let pools = provider.slot.pools();
        if !pools.is_empty() {
            return Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "provider {name:?} is used by {}; remove these pools first",
                    pools.join(", ")
                ),
            ));
        }
        self.providers.remove(name);
        Ok(provider)
    }

    /// Returns the names of all providers and of all pools, for the log.
    pub(super) fn names(&self) -> (String, String) {
        fn join<T>(nodes: &BTreeMap<Arc<str>, T>) -> String {
            nodes
                .keys()
                .map(|name| &**name)
                .collect::<Vec<_>>()
                .join(",")
        }
        (join(&self.providers), join(&self.pools))
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed {
            Err(Error::shut_down())
        } else {
            Ok(())
        }
    }
}

fn unknown<'n>(kind: &str, name: &str, known: impl Iterator<Item = &'n Arc<str>>) -> Error {
    let known = known
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let known = if known.is_empty() {
        "none is registered".to_owned()
    } else {
        format!("registered: {known}")
    };
    Error::new(
        ErrorKind::NotRegistered,
        format!("no {kind} is named {name:?}; {known}"),
    )
}
