//! The age of connections against the lifetime of tokens, and the connections that a pool needs
//! against those that the server has.

use std::time::Duration;

use claviger::lease::OldConnections;
use sqlx::{MySqlConnection, PgConnection, Row as _};
use tokio::time::timeout;

use super::login::LoggedIn;
use super::pooler::Pooler;
use crate::finding::{Finding, Step};

/// Lifetime of an IAM token.
const TOKEN: Duration = Duration::from_secs(15 * 60);
/// Longest age of a connection with one.
const LONGEST: Duration = Duration::from_secs(14 * 60);
/// Longest time of the statement.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is known when the age of connections is judged.
pub(super) struct LifetimeFacts {
    /// `connection_max_lifetime`; `None` for kinds without it.
    pub(super) max_lifetime: Option<Duration>,
    pub(super) is_token: bool,
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
    if facts.is_token {
        let age = seconds(lifetime);
        if lifetime > LONGEST {
            return Some(
                Finding::problem(
                    Step::Lifetime,
                    "lifetime_over_token",
                    format!(
                        "connections stay open for up to {age}, longer than a token ({})",
                        seconds(TOKEN)
                    ),
                )
                .with_next(
                    "set `connection_max_lifetime = \"14m\"`: connections then end with the \
                     identity that opened them",
                ),
            );
        }
        return Some(Finding::ok(
            Step::Lifetime,
            format!(
                "connections end after {age}, tokens after {}",
                seconds(TOKEN)
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

/// Limits and use of a server.
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
}

/// Reads the limits over an authenticated connection. `None` if they cannot be read.
pub(super) async fn read(connection: &mut LoggedIn) -> Option<Server> {
    let read = async {
        match connection {
            LoggedIn::Postgres(connection) => read_postgres(connection).await,
            LoggedIn::MySql(connection) => read_mysql(connection).await,
            LoggedIn::Redis => Err(sqlx::Error::RowNotFound),
        }
    };
    timeout(TIMEOUT, read).await.ok()?.ok()
}

async fn read_postgres(connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let row = sqlx::query(
        "SELECT current_setting('max_connections')::bigint
                - current_setting('superuser_reserved_connections')::bigint AS max,
                (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
                AS used,
                (SELECT rolconnlimit::bigint FROM pg_roles WHERE rolname = session_user)
                AS of_role,
                (SELECT datconnlimit::bigint FROM pg_database WHERE datname = current_database())
                AS of_database",
    )
    .fetch_one(connection)
    .await?;
    let limit = |name| row.try_get::<Option<i64>, _>(name);
    Ok(Server {
        max: row.try_get("max")?,
        used: row.try_get("used")?,
        of_role: limit("of_role")?.filter(|limit| *limit >= 0),
        of_database: limit("of_database")?.filter(|limit| *limit >= 0),
    })
}

async fn read_mysql(connection: &mut MySqlConnection) -> Result<Server, sqlx::Error> {
    let sql = "SELECT CAST(@@max_connections AS SIGNED) AS max, \
               CAST(@@max_user_connections AS SIGNED) AS of_role";
    let row = sqlx::query(sql).fetch_one(&mut *connection).await?;
    let of_role: i64 = row.try_get("of_role")?;
    let sql = "SHOW GLOBAL STATUS LIKE 'Threads_connected'";
    let used = sqlx::query(sql).fetch_one(connection).await?;
    let used: String = used.try_get(1)?;
    Ok(Server {
        max: row.try_get("max")?,
        used: used.parse().unwrap_or_default(),
        of_role: (of_role > 0).then_some(of_role),
        of_database: None,
    })
}

/// Judges the connections that a pool of this maximum and overlap needs. Behind a pooler, a limit is
/// a note: the pooler opens fewer connections than it accepts.
pub(super) fn capacity_finding(
    max_connections: u32,
    overlap: u32,
    server: Server,
    pooler: Option<Pooler>,
) -> Finding {
    let needed = i64::from(max_connections) + i64::from(overlap);
    let need = format!("{max_connections}, and {overlap} more during a rotation");
    for (limit, whose) in [
        (Some(server.max), "the server"),
        (server.of_role, "the role"),
        (server.of_database, "the database"),
    ] {
        if let Some(limit) = limit
            && needed > limit
        {
            let detail = format!("the pool needs {need}; {whose} has {limit}");
            return match pooler {
                Some(_) => Finding::note(Step::Capacity, "pool_over_limit", detail)
                    .with_next("the pooler shares connections; compare its own limits"),
                None => Finding::problem(Step::Capacity, "pool_over_limit", detail)
                    .with_next("lower `max_connections`, or raise the limit"),
            };
        }
    }
    let free = (server.max - server.used).max(0);
    let detail = format!("the pool needs {need}; {free} of {} are free", server.max);
    if needed > free {
        Finding::note(Step::Capacity, "few_connections_free", detail)
            .with_next("the pool's own connections may be among those in use; check the others")
    } else {
        Finding::ok(Step::Capacity, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(minutes: u64, is_token: bool, lease: Option<u64>) -> Option<&'static str> {
        let facts = LifetimeFacts {
            max_lifetime: Some(Duration::from_secs(minutes * 60)),
            is_token,
            lease: lease.map(|minutes| Duration::from_secs(minutes * 60)),
            old_connections: OldConnections::Drain,
        };
        lifetime_finding(&facts).and_then(|finding| finding.cause)
    }

    #[test]
    fn connections_may_be_open_for_14_of_a_token_s_15_minutes() {
        assert_eq!(lifetime(14, true, Some(15)), None);
        assert_eq!(lifetime(15, true, Some(15)), Some("lifetime_over_token"));
        assert_eq!(lifetime(30, false, Some(20)), Some("lifetime_over_lease"));
        assert_eq!(lifetime(30, false, None), None);
    }

    #[test]
    fn a_pool_is_compared_with_each_limit() {
        let server = |max, used, of_role| Server {
            max,
            used,
            of_role,
            of_database: None,
        };
        let cause = |server| capacity_finding(10, 2, server, None).cause;
        assert_eq!(cause(server(97, 1, None)), None);
        assert_eq!(cause(server(97, 90, None)), Some("few_connections_free"));
        assert_eq!(cause(server(11, 1, None)), Some("pool_over_limit"));
        assert_eq!(cause(server(97, 1, Some(11))), Some("pool_over_limit"));
        assert_eq!(cause(server(97, 1, Some(12))), None);
        let alone = capacity_finding(10, 2, server(11, 1, None), None);
        assert!(alone.is_problem());
        let pooled = capacity_finding(10, 2, server(11, 1, None), Some(Pooler::PgBouncer));
        assert_eq!(pooled.cause, Some("pool_over_limit"));
        assert!(!pooled.is_problem());
    }
}
