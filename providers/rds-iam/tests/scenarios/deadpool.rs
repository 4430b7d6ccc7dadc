//! Tokens on pools of deadpool-postgres, on a server that checks them as RDS does.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger::{Handle, Supervisor};
use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;
use claviger_deadpool_postgres::tokio_postgres::Config;
use claviger_deadpool_postgres::tokio_postgres::config::SslMode;
use claviger_deadpool_postgres::{CallError, DeadpoolPools, PgConnect};
use claviger_fixtures::eventually;
use claviger_rds_iam::RdsIam;
use claviger_servers::Postgres;
use tokio::task::JoinSet;

use crate::common::{Chain, provider, provider_with_lifetime};
use crate::scenarios::server::{TokenServer, signed_at, start_server};

const MAX: usize = 4;

/// Returns a factory of pools over verified TLS, whose connections are short-lived.
fn pools(server: &Postgres) -> DeadpoolPools {
    let mut config = Config::new();
    config
        .host(server.host())
        .port(server.port())
        .dbname("postgres")
        .ssl_mode(SslMode::Require);
    let connect = PgConnect::new(config)
        .with_root_certificates(server.ca_file().expect("it has TLS"))
        .expect("a certificate");
    let mut settings = PoolConfig::new(MAX);
    // Two calls in a row end within one window of failed logins.
    settings.timeouts.wait = Some(Duration::from_secs(8));
    DeadpoolPools::new(connect, settings).with_max_lifetime(Duration::from_millis(250))
}

async fn serve(server: &Postgres, provider: RdsIam) -> (Supervisor, Handle<DeadpoolPools>) {
    let supervisor = Supervisor::start();
    let credentials = supervisor.add_provider("login", provider);
    let credentials = credentials.await.expect("a token is signed");
    let db = supervisor.add_pool("orders", &credentials, pools(server));
    let db = db.await.expect("it is verified");
    (supervisor, db)
}

async fn query(db: &Handle<DeadpoolPools>) -> Result<(), CallError> {
    let connection = db.get().await?;
    connection.query_one("SELECT 1", &[]).await?;
    Ok(())
}

/// Callers open connections all the time while four tokens succeed one another.
pub(crate) async fn no_call_fails_while_tokens_expire() {
    let server: Postgres = start_server().await;
    let chain = Chain::key();
    let provider = provider_with_lifetime(&chain, Duration::from_secs(6));
    let (supervisor, db) = serve(&server, provider).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..2 * MAX {
        let (db, stop) = (db.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                query(&db).await.expect("no call fails");
            }
        });
    }
    eventually("four tokens were accepted", || {
        let tokens: BTreeSet<_> = server.logins().iter().map(signed_at).collect();
        tokens.len() >= 4
    })
    .await;
    stop.store(true, Ordering::Release);
    while let Some(ended) = callers.join_next().await {
        ended.expect("no failed call");
    }
    supervisor.shutdown(Duration::from_secs(5)).await;
    let logins = server.logins();
    let rejected: Vec<_> = logins.iter().filter(|check| !check.accepted).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
}

/// PAM rejects every token, as when IAM throttles.
pub(crate) async fn rejected_tokens_cost_few_logins() {
    let server: Postgres = start_server().await;
    let chain = Chain::key();
    let (supervisor, db) = serve(&server, provider(&chain)).await;
    let checks = server.checks().from_now().expect("the checks can be read");
    let reject = |all| {
        server
            .checks()
            .reject_all(all)
            .expect("the server reads it")
    };
    reject(true);
    let error = query(&db).await.expect_err("every login is rejected");
    assert_eq!(error.code(), Some("28000"), "{error}");
    let mut callers = JoinSet::new();
    for _ in 0..16 * MAX {
        let db = db.clone();
        callers.spawn(async move { query(&db).await });
    }
    while let Some(ended) = callers.join_next().await {
        let error = ended.expect("no panic").expect_err("it is rejected");
        assert_eq!(error.code(), Some("28000"), "{error}");
    }
    let rejected = checks.rejected().expect("the checks can be read");
    let budget = 1..=MAX + 3;
    assert!(budget.contains(&rejected), "{rejected} failed logins");
    reject(false);
    eventually("the token is accepted again", || {
        db.status()
            .is_some_and(|status| status.serving && !status.rejected)
    })
    .await;
    query(&db).await.expect("served again, by the same pool");
    supervisor.shutdown(Duration::from_secs(5)).await;
}
