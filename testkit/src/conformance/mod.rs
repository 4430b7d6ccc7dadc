//! Conformance: tests of a [`PoolFactory`] or a [`Provider`] against its documentation.
//!
//! The author of a pool or a provider writes controls, by which the kit changes the database or the
//! backend. Each check has a name, a time limit and the sentence that it verifies.
//!
//! ```no_run
//! # use claviger_testkit::conformance::{self, PoolControls};
//! # use claviger::pool::PoolFactory;
//! # async fn test<F: PoolFactory, C: PoolControls<F>>(factory: F, controls: C) {
//! let report = conformance::pool(factory, controls).await;
//! report.assert_passed();
//! # }
//! ```
//!
//! - The checks run on real time and on a runtime of their own, one after another. A subject that
//!   panics, or that hangs or blocks its thread for a minute, fails the check. Shorter blocks are
//!   detected in `fetch` and `try_get` alone, from 250 ms.
//! - A check that has no meaning for the subject is reported as not applicable, with the reason.
//! - Run the kit on the real server or backend. Results on a substitute do not apply to it.

mod pool;
mod provider;
mod report;
mod runner;
mod tools;

pub use pool::{PoolConformance, PoolControls};
pub use provider::{ProviderConformance, ProviderControls};
pub use report::{CheckReport, Outcome, Report};
pub use runner::ControlError;

use claviger::Provider;
use claviger::pool::PoolFactory;

/// Checks a kind of pool: the requirements of each method of [`PoolFactory`], and rotations under
/// load by a real supervisor. Await the result.
///
/// Give the factory two to ten connections. More only take time. On a PostgreSQL on the same
/// machine the kit takes about 20 s.
pub fn pool<F, C>(factory: F, controls: C) -> PoolConformance<F, C>
where
    F: PoolFactory,
    C: PoolControls<F>,
{
    PoolConformance::new(factory, controls)
}

/// Checks a provider: the requirements of each method of [`Provider`]. Await the result.
///
/// [`Provider::close`] is called once, by the last check.
pub fn provider<P, C>(provider: P, controls: C) -> ProviderConformance<P, C>
where
    P: Provider,
    C: ProviderControls<P>,
{
    ProviderConformance::new(provider, controls)
}
