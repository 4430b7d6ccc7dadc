//! Properties of the kinds of pools.

use crate::resolved_pool::Engine;
use crate::schema::PoolKind;

impl PoolKind {
    /// Returns the type of the pool's handle.
    pub(crate) fn handle(self) -> &'static str {
        match self {
            Self::Postgres => "Handle<claviger::PgPools>",
            Self::Mysql => "Handle<claviger::MySqlPools>",
            Self::DeadpoolPostgres => "Handle<claviger_deadpool_postgres::DeadpoolPools>",
            Self::DieselPostgres => "Handle<claviger_diesel_async::DieselPools>",
            Self::Bb8Postgres => "Handle<claviger_bb8::Bb8Pools<claviger_bb8::PgConnect>>",
            Self::Redis => "Handle<claviger_redis::RedisPools>",
            Self::RedisManaged => "Handle<claviger_redis::RedisPools<claviger_redis::Managed>>",
            Self::RedisCluster => "Handle<claviger_redis::RedisPools<claviger_redis::Cluster>>",
            Self::RedisExclusive => "Handle<claviger_redis::ExclusivePools>",
        }
    }

    pub(crate) fn engine(self) -> Engine {
        match self {
            Self::Postgres | Self::DeadpoolPostgres | Self::DieselPostgres | Self::Bb8Postgres => {
                Engine::Postgres
            }
            Self::Mysql => Engine::Mysql,
            Self::Redis | Self::RedisManaged | Self::RedisCluster | Self::RedisExclusive => {
                Engine::Redis
            }
        }
    }

    /// Returns whether the driver sends a client's certificate.
    pub(crate) fn sends_certificates(self) -> bool {
        match self.engine() {
            Engine::Postgres => self == Self::Postgres,
            Engine::Mysql | Engine::Redis => true,
        }
    }

    /// Returns the kind's name in the file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::DeadpoolPostgres => "deadpool-postgres",
            Self::DieselPostgres => "diesel-postgres",
            Self::Bb8Postgres => "bb8-postgres",
            Self::Redis => "redis",
            Self::RedisManaged => "redis-managed",
            Self::RedisCluster => "redis-cluster",
            Self::RedisExclusive => "redis-exclusive",
        }
    }

    /// Returns the feature of this crate that the kind needs, and whether it is enabled.
    pub(crate) fn feature(self) -> (&'static str, bool) {
        match self {
            Self::Postgres => ("postgres", cfg!(feature = "postgres")),
            Self::Mysql => ("mysql", cfg!(feature = "mysql")),
            Self::DeadpoolPostgres => ("deadpool-postgres", cfg!(feature = "deadpool-postgres")),
            Self::DieselPostgres => ("diesel-async", cfg!(feature = "diesel-async")),
            Self::Bb8Postgres => ("bb8", cfg!(feature = "bb8")),
            Self::Redis | Self::RedisManaged | Self::RedisCluster | Self::RedisExclusive => {
                ("redis", cfg!(feature = "redis"))
            }
        }
    }
}
