//! Poolers and proxies in front of PostgreSQL.

use super::greeting::Greeting;
use crate::finding::{Finding, Step};

/// Pooler or proxy in front of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooler {
    PgBouncer,
    RdsProxy,
}

/// Returns the pooler that the greeting or the host's name shows.
pub(super) fn pooler(host: &str, greeting: &Greeting) -> Option<Pooler> {
    let is_proxy = host.contains(".proxy-") && host.contains(".rds.");
    match greeting {
        Greeting::PgBouncer(_) => Some(Pooler::PgBouncer),
        _ if is_proxy => Some(Pooler::RdsProxy),
        _ => None,
    }
}

pub(super) fn pooler_finding(pooler: Pooler) -> Finding {
    match pooler {
        Pooler::PgBouncer => Finding::note(
            Step::Pooler,
            "pgbouncer",
            "PgBouncer is in front of the database: it authenticates by its own list of users",
        ),
        Pooler::RdsProxy => Finding::note(
            Step::Pooler,
            "rds_proxy",
            "RDS Proxy is in front of the database: it logs in with the secrets given to it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooler_shows_by_its_greeting_or_its_name() {
        let greeting = Greeting::PgBouncer(None);
        assert_eq!(pooler("db", &greeting), Some(Pooler::PgBouncer));
        let proxy = "orders.proxy-c1a2b3.us-west-2.rds.amazonaws.com";
        assert_eq!(pooler(proxy, &Greeting::Unknown), Some(Pooler::RdsProxy));
        let instance = "orders.c1a2b3.us-west-2.rds.amazonaws.com";
        assert_eq!(pooler(instance, &Greeting::Unknown), None);
    }
}
