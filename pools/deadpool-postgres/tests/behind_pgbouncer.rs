//! needs: postgresql, pgbouncer, quiet
//!
//! Rotations of pools of deadpool-postgres behind a connection pooler, which reports everything as
//! 08P01.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod kind;

use claviger::Handle;
use claviger::lease::OldConnections;
use claviger::pool::CheckPolicy;
use claviger_deadpool_postgres::tokio_postgres::Config;
use claviger_deadpool_postgres::tokio_postgres::config::SslMode;
use claviger_deadpool_postgres::{DeadpoolPools, PgConnect};
use claviger_pool_laws::{Fixture, PgKind, Settings};
use claviger_servers::PgBouncer;
use claviger_servers::pgbouncer::{PoolMode, Users};
use tokio::task::{JoinSet, block_in_place};

use kind::Deadpool;

const MAX: u32 = 4;

/// A server, a pooler in front of it, and a pool that connects through the pooler.
struct Pooled {
    fixture: Fixture<Deadpool>,
    pooler: PgBouncer,
    users: Users,
    db: Handle<DeadpoolPools>,
}

impl Pooled {
    async fn new(mode: PoolMode, users: Users) -> Self {
        // An update in place keeps connections. Its own pool has none.
        let fixture = Fixture::<Deadpool>::new(OldConnections::Keep, Settings::of(1)).await;
        let builder = PgBouncer::builder(users.clone())
            .mode(mode)
            .setting("query_wait_timeout", "1");
        let started = block_in_place(|| builder.start(&fixture.server));
        let pooler = started.expect("a pooler");
        let mut config = Config::new();
        config
            .host(pooler.host())
            .port(pooler.port())
            .dbname("orders")
            .ssl_mode(SslMode::Disable);
        let settings = Settings {
            checks: CheckPolicy::Always,
            ..Settings::of(MAX)
        };
        let pools = Deadpool::factory(PgConnect::new(config), settings);
        let added = fixture
            .supervisor
            .add_pool("pooled", &fixture.credentials, pools);
        let db = added.await.expect("verified");
        Self {
            fixture,
            pooler,
            users,
            db,
        }
    }

    /// Changes the password at the backend, on the server, and on a pooler that keeps passwords.
    fn change_password(&self) {
        let password = self.fixture.provider.rotate();
        self.fixture.set_password(&password);
        if matches!(self.users, Users::File(_)) {
            let updated = block_in_place(|| self.pooler.set_password("app", &password));
            updated.expect("the pooler reads its file");
        }
    }

    /// Closes all connections through the pooler.
    fn restart_pooler(&self) {
        block_in_place(|| self.pooler.start_again()).expect("the pooler starts");
    }

    fn rejections(&self) -> usize {
        let counted = self
            .pooler
            .log_count("pooler error: SASL authentication failed");
        counted.expect("a log")
    }
}

fn auth_file() -> Users {
    Users::File(vec![("app".to_owned(), "password-1".to_owned())])
}

async fn query(db: &Handle<DeadpoolPools>) -> Result<(), String> {
    let connection = db.get().await.map_err(|error| error.to_string())?;
    // A prepared statement belongs to one connection of the pooler. The next message may reach
    // another.
    let queried = connection.batch_execute("SELECT 1").await;
    queried.map_err(|error| error.to_string())
}

async fn a_rotation_costs_one_fetch(mode: PoolMode, users: Users) {
    let pooled = Pooled::new(mode, users).await;
    query(&pooled.db).await.expect("a query");
    pooled.change_password();
    pooled.restart_pooler();
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let db = pooled.db.clone();
        callers.spawn(async move { query(&db).await });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("no panic").expect("served after the fetch");
    }
    let fetches = pooled.fixture.provider.calls().len();
    assert_eq!(fetches, 2, "one at the start, one for the rejection");
    assert_eq!(pooled.db.generation(), 2);
    let failed = pooled.rejections();
    let budget = 1..=MAX as usize + 3;
    assert!(budget.contains(&failed), "{failed} failed logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_session_mode_with_an_auth_file_costs_one_fetch() {
    a_rotation_costs_one_fetch(PoolMode::Session, auth_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_transaction_mode_with_an_auth_query_costs_one_fetch() {
    a_rotation_costs_one_fetch(PoolMode::Transaction, Users::Query).await;
}
