//! Tests of the laws on a real PostgreSQL, written once for every kind of pool other than sqlx's.
//!
//! A crate of a pool has one test file, which implements [`PgKind`] and calls [`law_tests!`]:
//!
//! ```text
//! //! needs: postgresql, alone
//! //!
//! //! The laws on this kind of pool.
//!
//! struct Kind;
//!
//! impl claviger_pool_laws::PgKind for Kind { … }
//!
//! claviger_pool_laws::law_tests!(Kind);
//! ```
//!
//! Each test asserts that its hazard occurred.

#![expect(missing_docs, reason = "the name of a law's test is its documentation")]
#![expect(clippy::expect_used, reason = "a failing law fails its test")]

mod callers;
mod fixture;
mod law_01;
mod law_02;
mod law_05;
mod law_09;
mod law_10;
mod law_11;
mod law_14;
mod law_15;
mod peak;

use std::future::Future;
use std::time::Duration;

use claviger::Credentials;
use claviger::pool::PoolFactory;
use claviger_tokio_postgres::{CallError, PgConnect};

/// A kind of PostgreSQL pool.
pub trait PgKind: Send + Sync + 'static {
    /// Its factory.
    type Factory: PoolFactory<Secret = Credentials, Error = CallError>;

    /// Creates a factory of pools of this size, without checks of connections that cost a round
    /// trip.
    fn factory(connect: PgConnect, size: Size) -> Self::Factory;

    /// Executes a query that returns one row with one `bigint`, named `value`.
    fn value(
        connection: &mut <Self::Factory as PoolFactory>::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<i64, String>> + Send;
}

/// Size of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Maximum number of connections.
    pub max_connections: u32,
    /// Number of connections that are opened ahead of demand.
    pub min_connections: u32,
    /// Deadline of a call.
    pub acquire_timeout: Duration,
}

impl Size {
    /// Returns the size of a pool whose calls have a deadline of 25 s.
    const fn of(max_connections: u32) -> Self {
        Self {
            max_connections,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(25),
        }
    }
}

/// The laws, generic over the kind of pool. For [`law_tests!`].
#[doc(hidden)]
pub mod laws {
    pub use crate::law_01::*;
    pub use crate::law_02::*;
    pub use crate::law_05::*;
    pub use crate::law_09::*;
    pub use crate::law_10::*;
    pub use crate::law_11::*;
    pub use crate::law_14::*;
    pub use crate::law_15::*;
}

/// Defines the tests of all laws for a [`PgKind`].
#[macro_export]
macro_rules! law_tests {
    ($kind:ty) => {
        $crate::law_tests! {
            $kind:
            law_01_a_replacement_loses_no_query
            law_01_an_update_in_place_loses_no_query
            law_01_closed_is_returned_only_after_shutdown
            law_02_an_unverified_lease_serves_no_caller
            law_05_a_thousand_rejected_callers_cause_one_fetch
            law_05_callers_share_open_connections_while_the_backend_is_down
            law_05_without_a_timely_attempt_the_original_rejection_is_returned
            law_09_a_lease_is_released_after_its_last_connection
            law_10_replacing_under_load_stays_within_the_overlap
            law_10_replacing_busy_connections_stays_within_the_overlap
            law_10_updating_in_place_stays_within_the_overlap
            law_11_failed_logins_stay_within_the_budget
            law_14_a_shutdown_is_ordered_and_final
            law_14_a_shutdown_is_bounded
            law_15_cancelled_calls_cost_only_their_connections
            law_15_calls_cancelled_during_replacements_cost_only_their_connections
            law_15_calls_cancelled_during_updates_in_place_cost_only_their_connections
        }
    };
    ($kind:ty: $($law:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $law() {
                $crate::laws::$law::<$kind>().await;
            }
        )+
    };
}
