//! needs: postgresql, mariadb, redis
//!
//! Each kind of pool starts from a file, on real servers.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::{MySqlPools, PgPools};
use claviger_bb8::{Bb8Pools, PgConnect};
use claviger_config::{Config, RunningPools};
use claviger_deadpool_postgres::DeadpoolPools;
use claviger_diesel_async::DieselPools;
use claviger_diesel_async::diesel::{self, sql_query};
use claviger_diesel_async::diesel_async::RunQueryDsl;
use claviger_redis::{Cluster, ExclusivePools, Managed, RedisPools, redis};
use claviger_servers::{MariaDb, Postgres, Redis};
use sqlx::query_scalar;
use tempfile::TempDir;

struct Servers {
    postgres: Postgres,
    mariadb: MariaDb,
    redis: Redis,
    folder: TempDir,
}

impl Servers {
    fn new() -> Self {
        let postgres = Postgres::start().expect("a PostgreSQL");
        postgres.create_role("app", "s3cret").expect("a role");
        let mariadb = MariaDb::start().expect("a MariaDB");
        mariadb.create_role("app", "s3cret").expect("a user");
        let created = mariadb.create_database("orders", "app");
        created.expect("a database");
        let redis = Redis::start().expect("a Redis");
        redis.set_user("app", "s3cret").expect("a user");
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("password"), "s3cret\n").expect("written");
        Self {
            postgres,
            mariadb,
            redis,
            folder,
        }
    }

    async fn start(&self) -> RunningPools {
        let mut text = String::new();
        let password = self.folder.path().join("password");
        for (kind, port) in [
            ("postgres", self.postgres.port()),
            ("deadpool-postgres", self.postgres.port()),
            ("diesel-postgres", self.postgres.port()),
            ("bb8-postgres", self.postgres.port()),
            ("mysql", self.mariadb.port()),
            ("redis", self.redis.port()),
            ("redis-managed", self.redis.port()),
            ("redis-exclusive", self.redis.port()),
        ] {
            let database = match kind {
                "mysql" => "orders",
                _ if kind.starts_with("redis") => "0",
                _ => "postgres",
            };
            text += &format!(
                "[pools.{kind}]\nkind = \"{kind}\"\nhost = \"127.0.0.1\"\nport = {port}\n\
                 user = \"app\"\ndatabase = \"{database}\"\npassword = \"file:{}\"\n\
                 ssl_mode = \"disable\"\nacquire_timeout = \"10s\"\n",
                password.display()
            );
        }
        let file = self.folder.path().join("claviger.toml");
        std::fs::write(&file, text).expect("written");
        let config = Config::load(file).expect("it is valid");
        config.start().await.expect("it starts")
    }
}

#[derive(diesel::QueryableByName)]
struct User {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_pool_starts_from_a_file() {
    let servers = Servers::new();
    let pools = servers.start().await;

    let sqlx = pools.get::<PgPools>("postgres").expect("sqlx");
    let sql = "SELECT current_user::text AS name";
    let user: String = query_scalar(sql).fetch_one(&sqlx).await.expect("a row");
    assert_eq!(user, "app");

    let deadpool = pools
        .get::<DeadpoolPools>("deadpool-postgres")
        .expect("deadpool");
    let client = deadpool.get().await.expect("a connection");
    let row = client.query_one(sql, &[]).await.expect("a row");
    assert_eq!(row.get::<_, String>(0), "app");

    let diesel = pools.get::<DieselPools>("diesel-postgres").expect("diesel");
    let mut connection = diesel.get().await.expect("a connection");
    let user: User = sql_query(sql)
        .get_result(&mut *connection)
        .await
        .expect("a row");
    assert_eq!(user.name, "app");

    let bb8 = pools
        .get::<Bb8Pools<PgConnect>>("bb8-postgres")
        .expect("bb8");
    let client = bb8.get().await.expect("a connection");
    let row = client.query_one(sql, &[]).await.expect("a row");
    assert_eq!(row.get::<_, String>(0), "app");

    let mysql = pools.get::<MySqlPools>("mysql").expect("MySQL");
    let sql = "SELECT current_user()";
    let user: String = query_scalar(sql).fetch_one(&mysql).await.expect("a row");
    assert!(user.starts_with("app@"), "{user}");

    let shared = pools.get::<RedisPools>("redis").expect("Redis");
    assert_eq!(
        user_of(&mut *shared.get().await.expect("a connection")).await,
        "app"
    );
    let managed = pools
        .get::<RedisPools<Managed>>("redis-managed")
        .expect("Redis");
    assert_eq!(
        user_of(&mut *managed.get().await.expect("a connection")).await,
        "app"
    );
    let exclusive = pools
        .get::<ExclusivePools>("redis-exclusive")
        .expect("Redis");
    assert_eq!(
        user_of(&mut *exclusive.get().await.expect("a connection")).await,
        "app"
    );

    let wrong = pools.get::<PgPools>("mysql").expect_err("another kind");
    assert!(wrong.to_string().contains("MySql"), "{wrong}");
    pools.supervisor().shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_starts_from_any_of_the_nodes_in_a_file() {
    let cluster = Redis::builder().start_cluster(3).expect("a cluster");
    cluster.set_user("app", "s3cret").expect("a user");
    let folder = TempDir::new().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "s3cret\n").expect("written");
    // Nothing listens on the first one's port.
    let text = format!(
        "[pools.cache]\nkind = \"redis-cluster\"\nhost = \"127.0.0.1\"\nport = 1\n\
         nodes = [\"127.0.0.1:2\", \"{}:{}\"]\nuser = \"app\"\npassword = \"file:{}\"\n\
         ssl_mode = \"disable\"\nacquire_timeout = \"10s\"\n",
        cluster.nodes()[1].host(),
        cluster.nodes()[1].port(),
        password.display()
    );
    let file = folder.path().join("claviger.toml");
    std::fs::write(&file, text).expect("written");
    let pools = Config::load(file).expect("it is valid").start().await;
    let pools = pools.expect("the last one responds");
    let cache = pools.get::<RedisPools<Cluster>>("cache").expect("Redis");
    let mut connection = cache.get().await.expect("a connection");
    // Keys of different nodes.
    for number in 0..20 {
        let mut set = redis::cmd("SET");
        let set = set.arg(format!("order-{number}")).arg(number);
        set.exec_async(&mut *connection).await.expect("it is set");
    }
    pools.supervisor().shutdown(Duration::from_secs(5)).await;
}

async fn user_of(connection: &mut impl redis::aio::ConnectionLike) -> String {
    redis::cmd("ACL")
        .arg("WHOAMI")
        .query_async(connection)
        .await
        .expect("a name")
}
