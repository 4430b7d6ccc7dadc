//! needs: redis, quiet
//!
//! Each kind of pool passes the conformance kit on a real server.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use claviger::pool::{CheckPolicy, PoolFactory};
use claviger::{Credentials, Endpoint};
use claviger_redis::redis;
use claviger_redis::redis::aio::ConnectionLike;
use claviger_redis::{ExclusivePools, RedisPools};
use claviger_servers::Redis;
use claviger_testkit::conformance::{self, ControlError, Outcome, PoolControls};

use common::{USER, address, pools, with_long_timeouts};

/// Port of TCP's port multiplexer, on which no server listens.
const UNUSED_PORT: u16 = 1;

/// Name of a check, and the reason why it does not apply.
type Exclusion = (&'static str, &'static str);

/// Checks that have no meaning if all callers share a connection. `tests/kinds.rs`,
/// `tests/multiplexed.rs` and `tests/reconnecting.rs` test the laws behind them.
const SHARED: [Exclusion; 8] = [
    (
        "discard_closes_the_connection",
        "other callers use the connection; it is checked before the next one gets it",
    ),
    (
        "connections_and_idle_are_true",
        "the connection is never busy",
    ),
    (
        "get_waits_for_a_returned_connection",
        "callers share the connection, and no maximum limits them",
    ),
    (
        "a_dropped_get_keeps_no_place",
        "callers share the connection, and no maximum limits them",
    ),
    (
        "each_login_has_a_permit",
        "the check closes connections by discarding them, which closes no shared one",
    ),
    (
        "a_changed_password_costs_one_fetch",
        "the open connection continues after the change, so no caller logs in",
    ),
    (
        "failed_logins_are_bounded",
        "the open connection continues after the change, so no caller logs in",
    ),
    (
        "shutdown_closes_every_connection",
        "the check waits until idle connections are closed, and the shared one is in use",
    ),
];

/// Another such check, for a client that reconnects by itself.
const RECONNECTING: Exclusion = (
    "check_connection_finds_killed_connections",
    "the check's own PING opens the connection again",
);

/// A server, and the number of the user's password.
struct Controls {
    server: Redis,
    password: AtomicU32,
    /// Checks that do not apply, each with its reason.
    excluded: Vec<Exclusion>,
}

impl<F: PoolFactory<Secret = Credentials>> PoolControls<F> for Controls
where
    F::Connection: ConnectionLike + Sync,
{
    fn credentials(&self) -> Credentials {
        let number = self.password.load(Ordering::Acquire);
        Credentials::new(USER, format!("password-{number}"))
    }

    fn secret_text(&self, credentials: &Credentials) -> String {
        credentials.expose_password().to_owned()
    }

    async fn change_password(&self) -> Result<(), ControlError> {
        let number = self.password.load(Ordering::Acquire) + 1;
        self.server
            .set_password(USER, &format!("password-{number}"))?;
        self.password.store(number, Ordering::Release);
        Ok(())
    }

    async fn open_connections(&self) -> Result<u32, ControlError> {
        Ok(u32::try_from(self.server.connections_of(USER)?.len())?)
    }

    async fn kill_connections(&self) -> Result<(), ControlError> {
        self.server.kill_connections(USER)?;
        Ok(())
    }

    async fn query(&self, connection: &mut F::Connection) -> Result<(), ControlError> {
        redis::cmd("PING").exec_async(connection).await?;
        Ok(())
    }

    fn unreachable_credentials(&self) -> Option<Credentials> {
        let credentials = PoolControls::<F>::credentials(self);
        Some(credentials.with_endpoint(Endpoint::server("127.0.0.1", UNUSED_PORT)))
    }

    async fn rejected_logins(&self) -> Result<Option<u32>, ControlError> {
        Ok(Some(u32::try_from(self.server.rejected_logins_of(USER)?)?))
    }

    async fn set_running(&self, running: bool) -> Result<bool, ControlError> {
        if running {
            self.server.start_again()?;
        } else {
            self.server.stop()?;
        }
        Ok(true)
    }

    fn not_applicable(&self, check: &str) -> Option<String> {
        let mut excluded = self.excluded.iter();
        let (_, reason) = excluded.find(|(name, _)| *name == check)?;
        Some((*reason).to_owned())
    }
}

async fn conforms<F>(server: Redis, factory: F, excluded: Vec<Exclusion>)
where
    F: PoolFactory<Secret = Credentials>,
    F::Connection: ConnectionLike + Sync,
{
    server.set_user(USER, "password-1").expect("a user");
    let controls = Controls {
        server,
        password: AtomicU32::new(1),
        excluded: excluded.clone(),
    };
    let report = conformance::pool(factory, controls).await;
    report.assert_passed();
    let of_the_kit = [
        "`PoolSettings::checks`",
        "less than two connections",
        // Old and new credentials of the kit have the same user, and the server ends connections by
        // user.
        "`kill_connections_of`",
    ];
    for (check, reason) in report.not_applicable() {
        let is_expected = excluded.iter().any(|(name, _)| *name == check.name)
            || of_the_kit.iter().any(|text| reason.contains(text));
        assert!(is_expected, "{} is not applicable: {reason}", check.name);
    }
    for (name, _) in excluded {
        let outcome = report.check(name).map(|check| &check.outcome);
        assert!(
            matches!(outcome, Some(Outcome::NotApplicable { .. })),
            "{name}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn exclusive_pools_conform() {
    let server = Redis::start().expect("a server");
    let settings = pools(&server).with_checks(CheckPolicy::Always);
    let factory = ExclusivePools::new(settings, 4).expect("a factory");
    conforms(server, factory, Vec::new()).await;
}

#[tokio::test]
async fn multiplexed_connections_conform() {
    let server = Redis::start().expect("a server");
    let factory = pools(&server);
    conforms(server, factory, SHARED.to_vec()).await;
}

#[tokio::test]
async fn managers_conform() {
    let server = Redis::start().expect("a server");
    let factory = RedisPools::managed(address(&server)).expect("an address");
    let factory = with_long_timeouts(factory);
    conforms(server, factory, [&SHARED[..], &[RECONNECTING]].concat()).await;
}

#[tokio::test]
async fn clients_of_a_cluster_conform() {
    let server = Redis::builder().cluster().start().expect("a cluster");
    let factory = RedisPools::cluster([address(&server)]).expect("an address");
    let factory = with_long_timeouts(factory);
    conforms(server, factory, [&SHARED[..], &[RECONNECTING]].concat()).await;
}
