//! The checks of pools.

mod account;
mod closing;
mod connections;
mod credentials;
mod limits;
mod permits;
mod reauthentication;
mod rejections;
mod rotation;
mod shared_factory;
mod supervised;
mod verification;
mod world;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger::pool::PoolFactory;

use super::report::Report;
use super::runner::{CHECK_LIMIT, ControlError, Plan, Planned, basic_first, run_plan};
use world::World;

/// Actions of the kit on the database behind a pool.
///
/// No other client may use the user of the credentials. An error of a control fails the check that
/// needed it. Blocking calls are allowed.
pub trait PoolControls<F: PoolFactory>: Send + Sync + 'static {
    /// Returns credentials that the database accepts now.
    fn credentials(&self) -> F::Secret;

    /// Returns the part of these credentials that must never be shown: the password. It must have
    /// at least six characters, because shorter texts occur by chance and are not searched for.
    fn secret_text(&self, credentials: &F::Secret) -> String;

    /// Changes the password, so that the database rejects earlier credentials of the same user and
    /// keeps open connections.
    fn change_password(&self) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Returns how many connections of the user are open at the database.
    fn open_connections(&self) -> impl Future<Output = Result<u32, ControlError>> + Send;

    /// Ends all connections of the user at the database.
    fn kill_connections(&self) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Ends the database's connections that last authenticated with these credentials, as a
    /// database does when it drops their user. Returns whether the controls can do so. Default:
    /// `false`.
    fn kill_connections_of(
        &self,
        credentials: &F::Secret,
    ) -> impl Future<Output = Result<bool, ControlError>> + Send {
        let _ = credentials;
        async { Ok(false) }
    }

    /// Runs a short statement on the connection.
    ///
    /// # Errors
    /// The connection does not work.
    fn query(
        &self,
        connection: &mut F::Connection,
    ) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Returns credentials for an address at which no server listens. Default: `None`, if
    /// credentials have no address.
    fn unreachable_credentials(&self) -> Option<F::Secret> {
        None
    }

    /// Returns how many logins of the user the database has rejected so far. Default: `None`, if it
    /// does not count them.
    fn rejected_logins(&self) -> impl Future<Output = Result<Option<u32>, ControlError>> + Send {
        async { Ok(None) }
    }

    /// Stops the database (`false`) or starts it again (`true`). Returns whether the controls can
    /// do so. Default: `false`.
    fn set_running(
        &self,
        running: bool,
    ) -> impl Future<Output = Result<bool, ControlError>> + Send {
        let _ = running;
        async { Ok(false) }
    }

    /// Returns the reason why a check does not apply to this kind of pool, such as one whose
    /// callers share a connection. Default: `None`, all apply.
    fn not_applicable(&self, check: &str) -> Option<String> {
        let _ = check;
        None
    }
}

/// The checks of a pool, to be awaited. Returned by [`pool`](super::pool).
#[must_use = "nothing runs before it is awaited"]
pub struct PoolConformance<F, C> {
    factory: F,
    controls: C,
    limit: Duration,
    selected: Option<Vec<String>>,
}

impl<F: PoolFactory, C: PoolControls<F>> PoolConformance<F, C> {
    pub(super) fn new(factory: F, controls: C) -> Self {
        Self {
            factory,
            controls,
            limit: CHECK_LIMIT,
            selected: None,
        }
    }

    /// Sets the time after which a check is aborted and has failed. Default: 1 min.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the names of the checks that run. Default: all.
    pub fn with_checks<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.selected = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Returns the names of all checks, in their order.
    pub fn names() -> Vec<&'static str> {
        checks::<F, C>().iter().map(|check| check.name).collect()
    }
}

impl<F, C> fmt::Debug for PoolConformance<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolConformance").finish_non_exhaustive()
    }
}

impl<F: PoolFactory, C: PoolControls<F>> IntoFuture for PoolConformance<F, C> {
    type Output = Report;
    type IntoFuture = Pin<Box<dyn Future<Output = Report> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let world = World::new(self.factory, self.controls);
        let (controls, secrets) = (Arc::clone(&world.controls), world.secrets.clone());
        let mut checks = checks();
        if let Some(selected) = self.selected {
            checks.retain(|check: &Planned<_>| selected.iter().any(|name| name == check.name));
        }
        Box::pin(run_plan(Plan {
            subject: std::any::type_name::<F>(),
            checks,
            world,
            limit: self.limit,
            secrets,
            excluded: Box::new(move |name| controls.not_applicable(name)),
        }))
    }
}

/// Basic checks, in their order. All other checks of an open pool rest on them.
const BASIC: [&str; 6] = [
    "open_opens_no_connection",
    "get_opens_up_to_the_maximum",
    "try_get_returns_idle_connections_alone",
    "give_back_makes_a_connection_available",
    "a_dropped_connection_becomes_available",
    "drain_resolves_when_the_last_connection_has_closed",
];

fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    let mut single = verification::checks();
    let of_pools = [
        connections::checks(),
        limits::checks(),
        permits::checks(),
        credentials::checks(),
        reauthentication::checks(),
        rejections::checks(),
        account::checks(),
        closing::checks(),
    ];
    single.extend(basic_first(
        &BASIC,
        of_pools.into_iter().flatten().collect(),
    ));
    for check in &mut single {
        check.rest_on(rests_on(check.name).iter().copied());
    }
    // They rest on all other checks.
    let names: Vec<_> = single.iter().map(|check| check.name).collect();
    let mut combined = supervised::checks();
    combined.extend(rotation::checks());
    for check in &mut combined {
        check.rest_on(names.iter().copied());
    }
    single.extend(combined);
    single
}

/// Returns the checks that this one rests on. It would fail with them for the same reason.
fn rests_on(name: &str) -> &'static [&'static str] {
    match name {
        "verify_rejects_an_old_password"
        | "verify_leaves_no_connection"
        | "verify_as_pool_leaves_no_connection"
        | "no_secret_is_shown" => &["verify_accepts_valid_credentials"],
        "a_dropped_verify_leaves_no_connection" => &["verify_leaves_no_connection"],
        "verify_reports_an_unreachable_server" | "classify_keeps_the_code" => {
            &["verify_rejects_an_old_password"]
        }
        "error_keeps_a_shared_rejection" => &[
            "verify_rejects_an_old_password",
            "classify_recognises_a_rejected_login",
            "classify_keeps_the_code",
        ],
        "a_rejected_login_is_not_repeated" => {
            &["verify_rejects_an_old_password", "each_login_has_a_permit"]
        }
        "connections_and_idle_are_true" | "check_connection_finds_killed_connections" => {
            &["discard_closes_the_connection"]
        }
        "each_login_has_a_permit" => &["discard_closes_the_connection", "logins_wait_for_a_permit"],
        "warm_opens_connections" => &["connections_and_idle_are_true"],
        "many_callers_stay_within_the_maximum" | "a_dropped_get_keeps_no_place" => {
            &["get_waits_for_a_returned_connection"]
        }
        "waiting_logins_do_not_count" => &["each_login_has_a_permit"],
        "a_waiting_login_uses_the_new_credentials" => &[
            "logins_wait_for_a_permit",
            "update_in_place_logs_in_with_the_new_credentials",
        ],
        "reauthenticate_keeps_connections" => &[
            "update_in_place_keeps_connections",
            "update_in_place_logs_in_with_the_new_credentials",
        ],
        "reauthenticated_connections_outlast_old_credentials" => {
            &["reauthenticate_keeps_connections"]
        }
        "a_vacant_pool_is_closed" => &["time_outs_and_closed_pools_are_recognised"],
        "idle_times_are_true" => &["connections_and_idle_are_true"],
        "a_login_during_a_drain_leaves_no_connection" => &[
            "drain_lets_busy_connections_finish",
            "a_drained_pool_opens_no_connection",
        ],
        "a_drained_pool_opens_no_connection" => &["a_vacant_pool_is_closed"],
        "drain_closes_idle_connections_at_once" => &["drain_lets_busy_connections_finish"],
        _ => &[],
    }
}
