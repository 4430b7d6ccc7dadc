//! The connections that pools need, against those that a server has.

use claviger::Credentials;
use claviger_config::Connection;

use super::limits::Server;
use super::pooler::Pooler;
use crate::finding::{Finding, Step, one_line};
use crate::place::Place;

/// A pool that has been examined, and the connections that it may open.
#[derive(Clone, Debug)]
pub(super) struct PoolUse {
    name: String,
    provider: String,
    /// Host and port.
    server: (String, u16),
    user: String,
    database: String,
    max: i64,
    /// Connections above the maximum during a rotation.
    overlap: i64,
}

impl PoolUse {
    pub(super) fn new(connection: &Connection, place: &Place, credentials: &Credentials) -> Self {
        let user = credentials.user().to_owned();
        Self {
            name: one_line(connection.name()),
            provider: connection.provider_name(),
            server: (place.host.to_ascii_lowercase(), place.port),
            database: place.database.clone().unwrap_or_else(|| user.clone()),
            user,
            max: connection.max_connections().into(),
            overlap: connection.overlap().into(),
        }
    }
}

/// Connections that several pools need.
struct Need {
    pools: Vec<String>,
    max: i64,
    /// More during a rotation: pools of one provider rotate at the same time.
    overlap: i64,
}

impl Need {
    fn of<'u>(uses: impl Iterator<Item = &'u PoolUse>) -> Self {
        let uses: Vec<_> = uses.collect();
        let of_provider = |provider: &str| -> i64 {
            let same = uses.iter().filter(|other| other.provider == provider);
            same.map(|other| other.overlap).sum()
        };
        let overlaps = uses.iter().map(|pool| of_provider(&pool.provider));
        Self {
            pools: uses.iter().map(|pool| pool.name.clone()).collect(),
            max: uses.iter().map(|pool| pool.max).sum(),
            overlap: overlaps.max().unwrap_or_default(),
        }
    }

    fn total(&self) -> i64 {
        self.max + self.overlap
    }

    fn text(&self) -> String {
        let Self {
            pools,
            max,
            overlap,
        } = self;
        let need = format!("{max}, and {overlap} more during a rotation");
        match pools.as_slice() {
            [] | [_] => format!("the pool needs {need}"),
            pools => format!("the pools {} together need {need}", pools.join(", ")),
        }
    }
}

/// Returns the finding for the connections that the last pool needs, alone and together with those
/// before it. Behind a pooler, a limit is a note: the pooler opens fewer connections than it
/// accepts. `None` without a pool.
pub(super) fn capacity_finding(
    uses: &[PoolUse],
    server: Server,
    pooler: Option<Pooler>,
) -> Option<Finding> {
    let own = uses.last()?;
    let same_server = || uses.iter().filter(|other| other.server == own.server);
    let alone = || Need::of(std::iter::once(own));
    let scopes = [
        (Some(server.max), "the server", Need::of(same_server())),
        (
            server.of_role,
            "the role",
            Need::of(same_server().filter(|other| other.user == own.user)),
        ),
        (
            server.of_database,
            "the database",
            Need::of(same_server().filter(|other| other.database == own.database)),
        ),
    ];
    for (limit, whose, together) in scopes {
        let Some(limit) = limit else {
            continue;
        };
        let need = match alone() {
            alone if alone.total() > limit => alone,
            _ if together.total() > limit => together,
            _ => continue,
        };
        let cause = match need.pools.len() {
            1 => "pool_over_limit",
            _ => "pools_over_limit",
        };
        let detail = format!("{}; {whose} has {limit}", need.text());
        return Some(match pooler {
            Some(_) => Finding::note(Step::Capacity, cause, detail)
                .with_next("the pooler shares connections; compare its own limits"),
            None => Finding::problem(Step::Capacity, cause, detail).with_next(
                "lower `max_connections` of the pools, or raise the limit; each running instance \
                 of the service needs as many",
            ),
        });
    }
    let need = alone();
    let free = (server.max - server.used).max(0);
    let detail = format!("{}; {free} of {} are free", need.text(), server.max);
    Some(if need.total() > free {
        Finding::note(Step::Capacity, "few_connections_free", detail)
            .with_next("the pool's own connections may be among those in use; check the others")
    } else {
        Finding::ok(Step::Capacity, detail)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    fn pool(name: &str, provider: &str, user: &str) -> PoolUse {
        PoolUse {
            name: name.into(),
            provider: provider.into(),
            server: ("db".into(), 5432),
            user: user.into(),
            database: "orders".into(),
            max: 10,
            overlap: 2,
        }
    }

    fn server(max: i64, used: i64, of_role: Option<i64>) -> Server {
        Server {
            max,
            used,
            of_role,
            of_database: None,
            time: None,
            is_read_only: false,
            running: 0,
            longest_ms: 0,
            sees_transactions: true,
        }
    }

    fn judge(uses: &[PoolUse], server: Server, pooler: Option<Pooler>) -> Finding {
        capacity_finding(uses, server, pooler).expect("a pool")
    }

    #[test]
    fn a_pool_is_compared_with_each_limit() {
        let own = [pool("a", "p", "app")];
        let cause = |server| judge(&own, server, None).cause;
        assert_eq!(cause(server(97, 1, None)), None);
        assert_eq!(cause(server(97, 90, None)), Some("few_connections_free"));
        assert_eq!(cause(server(11, 1, None)), Some("pool_over_limit"));
        assert_eq!(cause(server(97, 1, Some(11))), Some("pool_over_limit"));
        assert_eq!(cause(server(97, 1, Some(12))), None);
        assert!(judge(&own, server(11, 1, None), None).is_problem());
        let pooled = judge(&own, server(11, 1, None), Some(Pooler::PgBouncer));
        assert_eq!(pooled.cause, Some("pool_over_limit"));
        assert!(!pooled.is_problem());
    }

    #[test]
    fn pools_of_one_server_are_compared_together() {
        let cause = |uses: &[PoolUse], server| judge(uses, server, None).cause;
        let mut pools = [pool("a", "p", "app"), pool("b", "q", "app")];
        assert_eq!(cause(&pools, server(22, 1, None)), None);
        let over = judge(&pools, server(21, 1, None), None);
        assert_eq!(over.cause, Some("pools_over_limit"));
        assert!(
            over.detail
                .contains("the pools a, b together need 20, and 2"),
            "{over:?}"
        );
        // Pools of one provider rotate together.
        pools[1].provider = "p".into();
        assert_eq!(cause(&pools, server(23, 1, None)), Some("pools_over_limit"));
        assert_eq!(
            cause(&pools, server(97, 1, Some(23))),
            Some("pools_over_limit")
        );
        pools[0].user = "other".into();
        assert_eq!(cause(&pools, server(97, 1, Some(23))), None);
        pools[0].server.1 = 5433;
        assert_eq!(cause(&pools, server(12, 0, None)), None);
    }
}
