//! A service without Claviger, for comparison.

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

/// Pause between two connection attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// When the service fetches the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchPolicy {
    /// Before each connection attempt.
    EachTime,
    /// When the cached credentials are older than this, as in AWS's caching clients. Their default
    /// is one hour; five minutes are common.
    Cached(Duration),
}

/// One connection attempt.
#[derive(Clone, Copy, Debug)]
pub struct ConnectAttempt {
    /// Time of the start, before a fetch.
    pub began: Instant,
    /// Time of the end.
    pub ended: Instant,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// A service that connects repeatedly.
#[derive(Debug)]
pub struct PlainService {
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicUsize>,
    task: JoinHandle<Vec<ConnectAttempt>>,
}

impl PlainService {
    /// Starts the service: it fetches `AWSCURRENT` of [`SECRET`] and connects.
    pub fn start<S: Server>(fixture: &FixtureOn<S>, aws: &SdkConfig, policy: FetchPolicy) -> Self {
        let (stop, connected) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (client, server) = (Client::new(aws), Arc::clone(&fixture.server));
        let task = tokio::spawn({
            let (stop, connected) = (Arc::clone(&stop), Arc::clone(&connected));
            async move {
                let mut cached: Option<(Instant, String, String)> = None;
                let mut attempts = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    let began = Instant::now();
                    let stale = match (policy, &cached) {
                        (FetchPolicy::EachTime, _) | (_, None) => true,
                        (FetchPolicy::Cached(lifetime), Some((since, ..))) => {
                            since.elapsed() >= lifetime
                        }
                    };
                    if stale {
                        let response = client
                            .get_secret_value()
                            .secret_id(SECRET)
                            .version_stage("AWSCURRENT")
                            .send()
                            .await
                            .expect("the secret is fetched");
                        let secret: Value =
                            serde_json::from_str(response.secret_string().expect("a text"))
                                .expect("JSON");
                        let text = |key: &str| secret[key].as_str().expect("a string").to_owned();
                        cached = Some((began, text("username"), text("password")));
                    }
                    if let Some((_, user, password)) = &cached {
                        let connection = server.options(Some((user, password))).connect().await;
                        attempts.push(ConnectAttempt {
                            began,
                            ended: Instant::now(),
                            succeeded: connection.is_ok(),
                        });
                        if let Ok(connection) = connection {
                            connected.fetch_add(1, Ordering::AcqRel);
                            connection.close().await.expect("the connection closes");
                        }
                    }
                    sleep(PAUSE).await;
                }
                attempts
            }
        });
        Self {
            stop,
            connected,
            task,
        }
    }

    /// Returns how many connection attempts have succeeded.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// Stops the service and returns its connection attempts.
    ///
    /// # Panics
    /// Panics if a fetch failed.
    pub async fn stop(self) -> Vec<ConnectAttempt> {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no panic")
    }
}
