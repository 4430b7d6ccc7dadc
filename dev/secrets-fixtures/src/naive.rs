//! What services do without this library.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_types::SdkConfig;
use claviger_fixtures::{FixtureOn, Server};
use serde_json::Value;
use sqlx::{ConnectOptions, Connection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::SECRET;

/// The pause between two connections: an even pace, as a pool's that replaces its connections.
const PACE: Duration = Duration::from_millis(20);

/// When to ask the store for the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Before each connect.
    EachTime,
    /// When what was asked for is older than this, as AWS's caching clients do (an hour by default;
    /// often five minutes).
    Cached(Duration),
}

/// One connect.
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    /// Before the store was asked, if it was.
    pub began: Instant,
    /// When the database had answered.
    pub ended: Instant,
    /// Whether it let us in.
    pub worked: bool,
}

/// A service that connects again and again.
#[derive(Debug)]
pub struct Naive {
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicUsize>,
    task: JoinHandle<Vec<Connect>>,
}

impl Naive {
    /// Starts it: it asks `AWSCURRENT` of the secret [`SECRET`], and connects.
    pub fn start<S: Server>(stage: &FixtureOn<S>, aws: &SdkConfig, habit: Habit) -> Self {
        let (stop, connected) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (client, server) = (Client::new(aws), Arc::clone(&stage.server));
        let task = tokio::spawn({
            let (stop, connected) = (Arc::clone(&stop), Arc::clone(&connected));
            async move {
                let mut cached: Option<(Instant, String, String)> = None;
                let mut outcomes = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    let began = Instant::now();
                    let stale = match (habit, &cached) {
                        (Habit::EachTime, _) | (_, None) => true,
                        (Habit::Cached(life), Some((since, ..))) => since.elapsed() >= life,
                    };
                    if stale {
                        let answer = client
                            .get_secret_value()
                            .secret_id(SECRET)
                            .version_stage("AWSCURRENT")
                            .send()
                            .await
                            .expect("it answers");
                        let login: Value =
                            serde_json::from_str(answer.secret_string().expect("a text"))
                                .expect("JSON");
                        let text = |key: &str| login[key].as_str().expect("a string").to_owned();
                        cached = Some((began, text("username"), text("password")));
                    }
                    if let Some((_, user, password)) = &cached {
                        let connection = server.options(Some((user, password))).connect().await;
                        outcomes.push(Connect {
                            began,
                            ended: Instant::now(),
                            worked: connection.is_ok(),
                        });
                        if let Ok(connection) = connection {
                            connected.fetch_add(1, Ordering::AcqRel);
                            connection.close().await.expect("it closes");
                        }
                    }
                    sleep(PACE).await;
                }
                outcomes
            }
        });
        Self {
            stop,
            connected,
            task,
        }
    }

    /// How often the database has let it in.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// Stops it, and answers its connects.
    ///
    /// # Panics
    /// When the store did not answer.
    pub async fn stop(self) -> Vec<Connect> {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no panic")
    }
}
