//! Database servers that check tokens as RDS does.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "no test file uses all of it"
)]

use std::time::SystemTime;

use claviger::pool::PoolFactory;
use claviger::{Credentials, PgPools};
use claviger_fixtures::Queried;
use claviger_servers::{Postgres, TokenCheck, TokenChecks};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, Database, Pool};

use crate::common::USER;

/// The connect options of a server's database.
pub(crate) type OptionsOf<S> =
    <<<S as TokenServer>::Db as Database>::Connection as Connection>::Options;

/// A server on which [`USER`] can authenticate by token only.
pub(crate) trait TokenServer: Send + Sync + Sized + 'static {
    type Db: Database;
    type Pools: Queried + PoolFactory<Secret = Credentials, Pool = Pool<Self::Db>>;

    /// SQLSTATE and message of a rejected token.
    const REJECTION: (&'static str, &'static str);

    /// Starts a server.
    fn start_server() -> Self;
    /// Returns its checks of tokens.
    fn checks(&self) -> &TokenChecks;
    /// Returns all checks so far, one for each login.
    fn logins(&self) -> Vec<TokenCheck> {
        self.checks().entries().expect("the checks can be read")
    }
    /// Returns its connect options over verified TLS, without user and password.
    fn options(&self) -> OptionsOf<Self>;
    /// Returns the same with user and token.
    fn options_for(&self, token: &str) -> OptionsOf<Self>;
    /// Returns a pool factory with these options.
    fn pools(&self, options: PoolOptions<Self::Db>) -> Self::Pools;
}

/// Starts a server off the async threads.
pub(crate) async fn start_server<S: TokenServer>() -> S {
    tokio::task::spawn_blocking(S::start_server)
        .await
        .expect("the server's thread ends")
}

/// Returns when the token of a check was signed, to the second, as in its date.
pub(crate) fn signed_at(check: &TokenCheck) -> SystemTime {
    let signed = check.checked_at - check.age;
    let since = signed
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    // Both are truncated to the millisecond, independently.
    SystemTime::UNIX_EPOCH
        + std::time::Duration::from_secs((since.as_millis() as u64 + 500) / 1_000)
}

impl TokenServer for Postgres {
    type Db = sqlx::Postgres;
    type Pools = PgPools;

    const REJECTION: (&'static str, &'static str) = ("28000", "PAM authentication failed for user");

    fn start_server() -> Self {
        let server = Postgres::builder()
            .tokens()
            .start()
            .expect("a server starts");
        server.create_token_role(USER).expect("a role is made");
        server
    }

    fn checks(&self) -> &TokenChecks {
        self.token_checks()
    }

    fn options(&self) -> PgConnectOptions {
        let authority = self.ca_file().expect("it speaks TLS");
        let options = PgConnectOptions::new_without_pgpass()
            .host(self.host())
            .port(self.port())
            .database("postgres");
        options
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert(authority)
    }

    fn options_for(&self, token: &str) -> PgConnectOptions {
        self.options().username(USER).password(token)
    }

    fn pools(&self, options: PoolOptions<sqlx::Postgres>) -> PgPools {
        PgPools::new(self.options(), options)
    }
}
