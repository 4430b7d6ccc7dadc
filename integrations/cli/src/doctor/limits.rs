//! The age of connections against the lifetime of tokens, and the limits of a server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger::lease::OldConnections;
use sqlx::{MySqlConnection, PgConnection, Row as _};
use tokio::time::timeout;

use super::login::LoggedIn;
use crate::finding::{Finding, Step};

/// Time before the expiry of an IAM token at which a connection with it is to be closed.
const MARGIN: Duration = Duration::from_secs(60);
/// Longest time of the statement.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is known when the age of connections is judged.
pub(super) struct LifetimeFacts {
    /// `connection_max_lifetime`; `None` for kinds without it.
    pub(super) max_lifetime: Option<Duration>,
    /// Lifetime of an IAM token, from its claims. `None` for passwords and other tokens, whose
    /// lease may show it.
    pub(super) token: Option<Duration>,
    /// Remaining lifetime of the lease.
    pub(super) lease: Option<Duration>,
    /// What happens to connections at the end of the lease.
    pub(super) old_connections: OldConnections,
}

pub(super) fn lifetime_finding(facts: &LifetimeFacts) -> Option<Finding> {
    let lifetime = facts.max_lifetime?;
    let seconds = |duration: Duration| {
        humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
    };
    if let Some(token) = facts.token {
        let age = seconds(lifetime);
        let longest = token.saturating_sub(MARGIN);
        if lifetime > longest {
            return Some(
                Finding::problem(
                    Step::Lifetime,
                    "lifetime_over_token",
                    format!(
                        "connections stay open for up to {age}, longer than a token ({})",
                        seconds(token)
                    ),
                )
                .with_next(format!(
                    "set `connection_max_lifetime = \"{}\"`: connections then end with the \
                     identity that opened them",
                    seconds(longest)
                )),
            );
        }
        return Some(Finding::ok(
            Step::Lifetime,
            format!(
                "connections end after {age}, tokens after {}",
                seconds(token)
            ),
        ));
    }
    match facts.lease {
        Some(lease) if facts.old_connections != OldConnections::Keep && lifetime > lease => {
            Some(Finding::note(
                Step::Lifetime,
                "lifetime_over_lease",
                format!(
                    "connections may last {}, the lease {}: a handover replaces them before",
                    seconds(lifetime),
                    seconds(lease)
                ),
            ))
        }
        _ => None,
    }
}

/// Limits and use of a server, and its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Connections that ordinary users may open.
    pub(super) max: i64,
    /// Connections that are open now, with that of the diagnosis.
    pub(super) used: i64,
    /// Limit of the role; `None` without one.
    pub(super) of_role: Option<i64>,
    /// Limit of the database; `None` without one.
    pub(super) of_database: Option<i64>,
    /// `None` if it is before 1970.
    pub(super) time: Option<SystemTime>,
    /// Whether it rejects writes, as a standby does.
    pub(super) is_read_only: bool,
    /// Transactions of others in this database that the user may see.
    pub(super) running: i64,
    /// Duration of the longest of them until now, in milliseconds.
    pub(super) longest_ms: i64,
    /// Whether transactions count in which no statement runs. On MySQL, only PROCESS shows them.
    pub(super) sees_transactions: bool,
}

/// Reads limits and clock over an authenticated connection. `None` for Redis, or if there is no
/// response in time.
///
/// # Errors
/// A statement failed.
pub(super) async fn read(connection: &mut LoggedIn) -> Result<Option<Server>, sqlx::Error> {
    let read = async {
        match connection {
            LoggedIn::Postgres(connection) => read_postgres(connection).await.map(Some),
            LoggedIn::TokioPostgres(client) => Ok(read_tokio_postgres(client).await.ok()),
            LoggedIn::MySql(connection) => read_mysql(connection).await.map(Some),
            LoggedIn::Redis(_) => Ok(None),
        }
    };
    timeout(TIMEOUT, read).await.unwrap_or(Ok(None))
}

/// Of other users' connections, an ordinary user sees the user alone. What has none is no client.
const OF_POSTGRES: &str = "
    SELECT current_setting('max_connections')::bigint
           - current_setting('superuser_reserved_connections')::bigint
           - coalesce(current_setting('reserved_connections', true), '0')::bigint AS max,
           (SELECT count(*) FROM pg_stat_activity
            WHERE coalesce(backend_type, 'client backend') = 'client backend'
                  AND usesysid IS NOT NULL) AS used,
           (SELECT rolconnlimit::bigint FROM pg_roles WHERE rolname = session_user) AS of_role,
           (SELECT datconnlimit::bigint FROM pg_database WHERE datname = current_database())
               AS of_database,
           (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS time,
           pg_is_in_recovery() AS is_read_only, running, longest_ms
    FROM (SELECT count(*) AS running,
                 coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) * 1000
                     AS longest
          FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND xact_start IS NOT NULL AND usesysid IS NOT NULL) AS others,
         LATERAL (SELECT longest::bigint AS longest_ms) AS rounded";

async fn read_postgres(connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let row = sqlx::query(OF_POSTGRES).fetch_one(connection).await?;
    Ok(Server {
        max: row.try_get("max")?,
        used: row.try_get("used")?,
        of_role: limit(row.try_get("of_role")?),
        of_database: limit(row.try_get("of_database")?),
        time: time(row.try_get("time")?),
        is_read_only: row.try_get("is_read_only")?,
        running: row.try_get("running")?,
        longest_ms: row.try_get("longest_ms")?,
        sees_transactions: true,
    })
}

async fn read_tokio_postgres(
    client: &tokio_postgres::Client,
) -> Result<Server, tokio_postgres::Error> {
    let row = client.query_one(OF_POSTGRES, &[]).await?;
    Ok(Server {
        max: row.try_get("max")?,
        used: row.try_get("used")?,
        of_role: limit(row.try_get("of_role")?),
        of_database: limit(row.try_get("of_database")?),
        time: time(row.try_get("time")?),
        is_read_only: row.try_get("is_read_only")?,
        running: row.try_get("running")?,
        longest_ms: row.try_get("longest_ms")?,
        sees_transactions: true,
    })
}

/// Returns a limit; -1 is none.
fn limit(value: Option<i64>) -> Option<i64> {
    value.filter(|limit| *limit >= 0)
}

/// Returns the time of milliseconds since 1970.
pub(super) fn time(milliseconds: i64) -> Option<SystemTime> {
    let milliseconds = u64::try_from(milliseconds).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

/// Needs the privilege PROCESS. The start of a transaction is in the server's time zone, and drivers
/// set another one for the session.
const MYSQL_TRANSACTIONS: &str = "
    SELECT CAST(COUNT(*) AS SIGNED) AS running,
           CAST(COALESCE(MAX(GREATEST(
               IF(p.COMMAND = 'Query', p.TIME, 0),
               COALESCE(TIMESTAMPDIFF(SECOND, t.trx_started,
                   CONVERT_TZ(NOW(), @@session.time_zone, 'SYSTEM')), 0))), 0) AS SIGNED) * 1000
               AS longest_ms
    FROM information_schema.PROCESSLIST p
    LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = p.ID
    WHERE (p.COMMAND = 'Query' OR t.trx_id IS NOT NULL)
          AND p.DB = DATABASE() AND p.ID <> CONNECTION_ID()";

/// Of other users, an ordinary user sees nothing.
const MYSQL_STATEMENTS: &str = "
    SELECT CAST(COUNT(*) AS SIGNED) AS running,
           CAST(COALESCE(MAX(TIME), 0) AS SIGNED) * 1000 AS longest_ms
    FROM information_schema.PROCESSLIST
    WHERE COMMAND = 'Query' AND DB = DATABASE() AND ID <> CONNECTION_ID()";

async fn read_mysql(connection: &mut MySqlConnection) -> Result<Server, sqlx::Error> {
    let sql = "SELECT CAST(@@max_connections AS SIGNED) AS max, \
               CAST(@@max_user_connections AS SIGNED) AS of_role, \
               CAST(UNIX_TIMESTAMP() AS SIGNED) * 1000 AS time, \
               CAST(@@global.read_only AS CHAR) IN ('1', 'ON') AS is_read_only";
    let row = sqlx::query(sql).fetch_one(&mut *connection).await?;
    let of_role: i64 = row.try_get("of_role")?;
    let sql = "SHOW GLOBAL STATUS LIKE 'Threads_connected'";
    let used = sqlx::query(sql).fetch_one(&mut *connection).await?;
    let used: String = used.try_get(1)?;
    let others = sqlx::query(MYSQL_TRANSACTIONS).fetch_one(&mut *connection);
    let (others, sees_transactions) = match others.await {
        Ok(others) => (others, true),
        Err(sqlx::Error::Database(_)) => {
            let others = sqlx::query(MYSQL_STATEMENTS).fetch_one(connection);
            (others.await?, false)
        }
        Err(error) => return Err(error),
    };
    Ok(Server {
        max: row.try_get("max")?,
        used: used.parse().unwrap_or_default(),
        of_role: (of_role > 0).then_some(of_role),
        of_database: None,
        time: time(row.try_get("time")?),
        is_read_only: row.try_get::<i64, _>("is_read_only")? != 0,
        running: others.try_get("running")?,
        longest_ms: others.try_get("longest_ms")?,
        sees_transactions,
    })
}

/// Returns what a rotation would wait for: connections of the old credential close when their
/// transactions end.
pub(super) fn drain_finding(server: Server) -> Finding {
    let longest = Duration::from_millis(server.longest_ms.try_into().unwrap_or_default());
    let detail = match server.running {
        0 => "nothing that this user may see runs now".to_owned(),
        running => format!(
            "{running} running now, the longest for {:.1} s; connections of the old credential \
             close when these end",
            longest.as_secs_f64()
        ),
    };
    if server.sees_transactions {
        return Finding::ok(Step::Drain, detail);
    }
    Finding::note(
        Step::Drain,
        "transactions_not_visible",
        format!("{detail}. Open transactions without a running statement are not visible"),
    )
    .with_next("grant the account PROCESS (GRANT PROCESS ON *.* …) to have them counted")
}

/// Notes a server that rejects writes.
pub(super) fn replica_finding() -> Finding {
    Finding::note(
        Step::Role,
        "read_only_replica",
        "the server is a replica, or read-only: it rejects writes",
    )
    .with_next("set `host` to that of the primary, unless the service reads alone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(minutes: u64, token: Option<u64>, lease: Option<u64>) -> Option<&'static str> {
        let of = |minutes| Duration::from_secs(minutes * 60);
        let facts = LifetimeFacts {
            max_lifetime: Some(of(minutes)),
            token: token.map(of),
            lease: lease.map(of),
            old_connections: OldConnections::Drain,
        };
        lifetime_finding(&facts).and_then(|finding| finding.cause)
    }

    #[test]
    fn connections_may_be_open_for_14_of_a_token_s_15_minutes() {
        assert_eq!(lifetime(14, Some(15), Some(15)), None);
        let over = Some("lifetime_over_token");
        assert_eq!(lifetime(15, Some(15), Some(15)), over);
        assert_eq!(lifetime(30, None, Some(20)), Some("lifetime_over_lease"));
        assert_eq!(lifetime(30, None, None), None);
    }
}
