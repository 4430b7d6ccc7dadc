//! A query through a handle beside one through a plain pool.

use claviger::{PgPools, ProviderRef, Supervisor};
use sqlx::PgPool;
use tokio::time::Instant;
use tracing::Instrument;

use crate::Stage;

/// A server's process that runs on its client's core answers sooner than one that does not, for as long as its session lives: each round has sessions of its own.
const ROUNDS: usize = 24;
/// In turn, so that neither always comes first.
const PAIRS: usize = 6;
const QUERIES: u32 = 150;

impl Stage {
    /// How long a query through a handle of this supervisor's takes, as a multiple of the same through a plain pool: once per pair of
    /// measurements that follow each other. `login` is one of the supervisor's.
    pub async fn beside_a_plain_pool(&self, supervisor: &Supervisor, login: &ProviderRef<claviger::Login>) -> Vec<f64> {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let pools = PgPools::new(self.connect_options(), self.pool_options(4));
            let db = supervisor.pool("beside", login, pools).await.expect("proved");
            let plain: PgPool = self.plain_pool("password-1", self.pool_options(4));
            let ours = async || {
                sqlx::query("SELECT 1").execute(&db).await.expect("it answers");
            };
            let theirs = async || {
                sqlx::query("SELECT 1").execute(&plain).await.expect("it answers");
            };
            let _ = (time(&ours).await, time(&theirs).await);
            for pair in 0..PAIRS {
                ratios.push(if pair % 2 == 0 {
                    let ours = time(&ours).await;
                    ours / time(&theirs).await
                } else {
                    let theirs = time(&theirs).await;
                    time(&ours).await / theirs
                });
            }
            plain.close().await;
            supervisor.remove_pool("beside").await.expect("it is there");
        }
        ratios
    }
}

/// Seconds, each query in a span of its caller's, as requests have one.
async fn time(query: &impl AsyncFn()) -> f64 {
    let began = Instant::now();
    for _ in 0..QUERIES {
        query().instrument(tracing::info_span!("request")).await;
    }
    began.elapsed().as_secs_f64()
}
