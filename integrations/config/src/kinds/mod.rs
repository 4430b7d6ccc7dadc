//! Factories of pools from their settings.

#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod sqlx;
#[cfg(any(
    feature = "bb8",
    feature = "deadpool-postgres",
    feature = "diesel-async"
))]
pub(crate) mod tokio_postgres;

use claviger::pool::HandoverPolicy;

use crate::resolved_pool::ResolvedPool;
use crate::schema::Handover;

impl ResolvedPool {
    #[cfg_attr(
        not(any(
            feature = "bb8",
            feature = "deadpool-postgres",
            feature = "diesel-async",
            feature = "mysql",
            feature = "postgres",
            feature = "redis"
        )),
        expect(dead_code, reason = "no kind of pool is enabled")
    )]
    fn handover_policy(&self) -> HandoverPolicy {
        match self.settings.handover {
            None | Some(Handover::AsLeased) => HandoverPolicy::AsLeased,
            Some(Handover::AlwaysInPlace) => HandoverPolicy::AlwaysInPlace,
            Some(Handover::AlwaysReplace) => HandoverPolicy::AlwaysReplace,
        }
    }
}
