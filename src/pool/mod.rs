//! Pools: verification, handover and drain of a lease, and service to callers meanwhile.

mod acquire;
mod address;
pub(crate) mod admission;
mod attempt;
mod call;
mod checks;
mod connect;
mod connection_guard;
mod drain;
mod driver;
mod explain;
mod factory;
mod generation;
mod handover;
mod login_limits;
mod login_permits;
pub(crate) mod machine;
#[cfg(feature = "testing")]
mod observed_permits;
mod own_calls;
mod own_queue;
mod probe;
mod queue;
mod rehearse;
mod returned;
mod roll_back;
mod settings;
mod slot;
mod state;
mod status;
mod task;
mod verifier;
mod warming;

#[cfg(any(feature = "sqlx-08", feature = "sqlx-09"))]
pub(crate) use acquire::Acquired;
pub(crate) use acquire::acquire;
pub(crate) use call::are_expired;
#[cfg(any(feature = "sqlx-08", feature = "sqlx-09"))]
pub(crate) use connection_guard::{CallState, ConnectionGuard, RETURN_TIMEOUT};
#[cfg(any(feature = "sqlx-08", feature = "sqlx-09"))]
pub(crate) use generation::Generation;
pub(crate) use generation::{Phase, Shared};
#[cfg(any(feature = "sqlx-08", feature = "sqlx-09"))]
pub(crate) use login_limits::WITHOUT_CALLER;
pub(crate) use machine::NoRollBack;
#[doc(hidden)]
#[cfg(feature = "testing")]
pub use observed_permits::ObservedPermits;
pub(crate) use roll_back::NotRolledBack;
pub(crate) use slot::PoolSlot;
#[cfg(any(feature = "sqlx-08", feature = "sqlx-09"))]
pub(crate) use verifier::PANICKED;
#[cfg(all(feature = "postgres", any(feature = "sqlx-08", feature = "sqlx-09")))]
pub(crate) use {connection_guard::give_back, explain::wait_error};

pub use address::{Address, check_credentials, explain_login};
pub use checks::{CheckPolicy, Taken};
pub use factory::{AcquireError, Check, PoolFactory};
pub use login_permits::{LoginError, LoginPermits};
pub use settings::{HandoverPolicy, PoolSettings, SettingNames};
pub use verifier::Verifier;
