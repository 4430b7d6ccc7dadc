//! A query through a handle beside one through a plain pool.

use claviger::{PgPools, ProviderRef, Supervisor};
use sqlx::PgPool;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{Figures, Stage, median};

/// A connection's process may stay on a core that suits it better than another's: each round has connections of its own, opened in turn first by one and by the other.
const ROUNDS: usize = 40;
/// In turn, too.
const PAIRS: usize = 4;
const QUERIES: u32 = 100;

impl Stage {
    /// How long a query through a handle of this supervisor's takes, as a multiple of the same through a plain pool: the median of pairs of
    /// measurements that follow each other. `login` is one of the supervisor's. One process differs from the next by some percent, either way: run it
    /// more than once.
    pub async fn beside_a_plain_pool(
        &self,
        figures: &mut Figures,
        title: &str,
        supervisor: &Supervisor,
        login: &ProviderRef<claviger::Credentials>,
    ) {
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            let pools = PgPools::new(self.connect_options(), self.pool_options(4));
            let db = supervisor.add_pool("beside", login, pools).await.expect("verified");
            let plain: PgPool = self.plain_pool("password-1", self.pool_options(4));
            let ours = async || {
                sqlx::query("SELECT 1").execute(&db).await.expect("it answers");
            };
            let theirs = async || {
                sqlx::query("SELECT 1").execute(&plain).await.expect("it answers");
            };
            // The first measurement opens the connections, and does not count.
            for pair in 0..=PAIRS {
                let ratio = if (round + pair) % 2 == 0 {
                    let ours = time(&ours).await;
                    ours / time(&theirs).await
                } else {
                    let theirs = time(&theirs).await;
                    time(&ours).await / theirs
                };
                ratios.extend((pair > 0).then_some(ratio));
            }
            plain.close().await;
            supervisor.remove_pool("beside").await.expect("it is there");
        }
        figures.at_most(title, median(&mut ratios), 1.01);
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
