//! Tests of the laws, of settings and of connections on a real PostgreSQL, and of conformance. They
//! are written once, for every kind of pool other than sqlx's.
//!
//! The crate of a pool implements [`PgKind`] in `tests/kind/mod.rs`. It has three test files, which
//! call [`law_tests!`], [`pool_tests!`] and [`conformance_tests!`]:
//!
//! ```text
//! //! needs: postgresql, alone
//! //!
//! //! The laws on this kind of pool.
//!
//! mod kind;
//!
//! claviger_pool_laws::law_tests!(kind::ThisKind);
//! ```
//!
//! Each test asserts that its hazard occurred.

#![expect(missing_docs, reason = "the name of a law's test is its documentation")]
#![expect(clippy::expect_used, reason = "a failing law fails its test")]

mod callers;
mod conformance;
mod connections;
mod errors;
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
mod settings;

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use claviger::Credentials;
use claviger::pool::{CheckPolicy, HandoverPolicy, PoolFactory};
use claviger_tokio_postgres::{CallError, PgConnect};

pub use fixture::{ConnectionOf, Fixture, ONE, PATIENCE, PoolOf, eventually};

/// A kind of PostgreSQL pool.
pub trait PgKind: Send + Sync + 'static {
    /// Its factory.
    type Factory: PoolFactory<Secret = Credentials, Error = CallError, Pool: Debug, Connection: Debug>
        + Clone;

    /// Creates a factory of pools with these settings.
    fn factory(connect: PgConnect, settings: Settings) -> Self::Factory;

    /// Executes a query that returns one row with one `bigint`, named `value`.
    fn value(
        connection: &mut ConnectionOf<Self>,
        sql: &str,
    ) -> impl Future<Output = Result<i64, String>> + Send;

    /// Begins a transaction, executes this statement and commits.
    fn transaction(
        connection: &mut ConnectionOf<Self>,
        sql: &str,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Takes a connection from the pool that [`Handle::current`](claviger::Handle::current)
    /// returns, without the handle. Returns the `Debug` output of pool and connection.
    fn take_from(
        pool: &<Self::Factory as PoolFactory>::Pool,
    ) -> impl Future<Output = Result<String, String>> + Send;
}

/// Settings of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Maximum number of connections.
    pub max_connections: u32,
    /// Number of connections that are opened ahead of demand.
    pub min_connections: u32,
    /// Deadline of a call.
    pub acquire_timeout: Duration,
    /// When a connection is checked.
    pub checks: CheckPolicy,
    /// Whether handovers are in place.
    pub policy: HandoverPolicy,
    /// Age at which a connection is closed.
    pub max_lifetime: Option<Duration>,
    /// Time after which an idle connection is closed.
    pub idle_timeout: Option<Duration>,
}

impl Settings {
    /// Returns the settings of a pool of this size, whose calls have a deadline of 25 s. The rest
    /// are the pools' defaults.
    pub const fn of(max_connections: u32) -> Self {
        Self {
            max_connections,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(25),
            checks: CheckPolicy::Never,
            policy: HandoverPolicy::AsLeased,
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
        }
    }
}

/// The tests, generic over the kind of pool.
#[doc(hidden)]
pub mod tests {
    pub use crate::conformance::*;
    pub use crate::connections::*;
    pub use crate::errors::*;
    pub use crate::law_01::*;
    pub use crate::law_02::*;
    pub use crate::law_05::*;
    pub use crate::law_09::*;
    pub use crate::law_10::*;
    pub use crate::law_11::*;
    pub use crate::law_14::*;
    pub use crate::law_15::*;
    pub use crate::settings::*;
}

/// Defines the tests of all laws for a [`PgKind`].
#[macro_export]
macro_rules! law_tests {
    ($kind:ty) => {
        $crate::run_tests! {
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
}

/// Defines the tests of settings, connections and errors for a [`PgKind`].
#[macro_export]
macro_rules! pool_tests {
    ($kind:ty) => {
        $crate::run_tests! {
            $kind:
            a_caller_gets_the_drivers_error
            a_cancelled_transaction_leaves_no_connection_inside_it
            a_check_executes_its_statement_on_a_connection_that_was_idle_for_long
            a_full_server_gets_room_for_the_verification
            a_killed_connection_is_never_handed_out
            another_endpoint_replaces_a_pool_that_is_updated_in_place
            connections_end_with_their_lifetime_and_idle_time
            each_caller_gets_the_error_of_its_own_login
            invalid_settings_are_errors_at_construction
            no_secret_is_shown
            the_hook_applies_to_each_connection_and_a_failing_one_is_the_error
            try_get_opens_no_connection
        }
    };
}

/// Defines the tests by the conformance kit for a [`PgKind`].
#[macro_export]
macro_rules! conformance_tests {
    ($kind:ty) => {
        $crate::run_tests! {
            $kind:
            pools_conform
            pools_with_a_minimum_and_without_checks_conform
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! run_tests {
    ($kind:ty: $($test:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                $crate::tests::$test::<$kind>().await;
            }
        )+
    };
}
