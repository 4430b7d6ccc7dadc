//! A chain on paused time.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use tokio::time::{Instant, sleep};

use crate::chain::{key, session};

/// A chain that responds slowly, and whose sessions expire by the paused clock.
#[derive(Debug)]
pub struct SlowChain {
    /// Time until it returns.
    pub delay: Duration,
    /// Lifetime of its sessions. Without one it returns a key.
    pub session_lifetime: Option<Duration>,
    /// Start of the first session, by both clocks.
    pub started: (SystemTime, Instant),
}

impl SlowChain {
    /// Returns a key, or a session that is kept until 10 s before its end, as in the SDK's cache.
    async fn response(&self) -> AwsCredentials {
        sleep(self.delay).await;
        let Some(lifetime) = self.session_lifetime else {
            return key("AKIAEXAMPLE");
        };
        let kept = lifetime - Duration::from_secs(10);
        let number = self.started.1.elapsed().as_secs() / kept.as_secs();
        let end = self.started.0 + kept * u32::try_from(number).expect("few") + lifetime;
        session(
            &format!("ASIA{number}"),
            &format!("token-{number}"),
            Some(end),
        )
    }
}

impl ProvideCredentials for SlowChain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { Ok(self.response().await) })
    }
}
