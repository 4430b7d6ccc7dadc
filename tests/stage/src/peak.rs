//! The most connections at once, as the server sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sqlx::pool::PoolOptions;
use tokio::task::JoinHandle;

use crate::{Server, StageOn};

/// Counts the connections of `app` on the server, as often as it can.
#[derive(Debug)]
pub struct Peak {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Peak {
    /// Counts from now on.
    ///
    /// # Panics
    /// When it is called twice for one stage, or cannot log in.
    pub async fn watch<S: Server>(stage: &StageOn<S>) -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        stage.on_the_server(S::admit_watcher).await;
        let options = stage.server.options(Some(("watcher", "watcher")));
        let pool = PoolOptions::new().max_connections(1).connect_with(options).await.expect("it connects");
        let task = tokio::spawn({
            let (stop, peak) = (Arc::clone(&stop), Arc::clone(&peak));
            async move {
                while !stop.load(Ordering::Acquire) {
                    let count = S::count_connections(&pool).await.expect("it counts");
                    peak.fetch_max(count, Ordering::AcqRel);
                }
            }
        });
        Self { stop, peak, task }
    }

    /// The most at once.
    ///
    /// # Panics
    /// When the counting failed.
    pub async fn stop(self) -> i64 {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no panic");
        self.peak.load(Ordering::Acquire)
    }
}
