//! A scripted chain of AWS credentials.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_types::sdk_config::TimeSource;
use parking_lot::Mutex;

type Response = Result<AwsCredentials, CredentialsError>;

struct Script {
    respond: Box<dyn FnMut() -> Response + Send>,
    calls: usize,
}

/// Returns credentials by a script. Clones share it.
#[derive(Clone)]
pub struct Chain(Arc<Mutex<Script>>);

impl Chain {
    /// Creates a chain that returns what `respond` returns, for each call.
    pub fn scripted(respond: impl FnMut() -> Response + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Script {
            respond: Box::new(respond),
            calls: 0,
        })))
    }

    /// Creates a chain of one key that never expires.
    pub fn key() -> Self {
        Self::scripted(|| Ok(key("AKIAEXAMPLE")))
    }

    /// Creates a chain of sessions with this lifetime. Each is returned until `margin` before its
    /// end, as a cache does. `issued` receives each key and its end.
    pub fn sessions(
        lifetime: Duration,
        margin: Duration,
        issued: impl Fn(&str, SystemTime) + Send + 'static,
    ) -> Self {
        let (mut number, mut current) = (0, None::<(AwsCredentials, SystemTime)>);
        Self::scripted(move || {
            let now = wall_time();
            if let Some((session, end)) = &current
                && now + margin < *end
            {
                return Ok(session.clone());
            }
            number += 1;
            let end = now + lifetime;
            let session = session(
                &format!("ASIAEXAMPLE{number}"),
                &format!("session-token/{number}=="),
                Some(end),
            );
            issued(session.access_key_id(), end);
            current = Some((session.clone(), end));
            Ok(session)
        })
    }

    /// Replaces the script.
    pub fn respond_with(&self, respond: impl FnMut() -> Response + Send + 'static) {
        self.0.lock().respond = Box::new(respond);
    }

    /// Returns how often credentials were requested.
    pub fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// Returns a configuration with this chain and region.
    pub fn config(&self, region: Option<&'static str>) -> SdkConfig {
        SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(self.clone()))
            .region(region.map(Region::new))
            .time_source(WallClock)
            .build()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain")
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let mut script = self.0.lock();
        script.calls += 1;
        future::ProvideCredentials::ready((script.respond)())
    }
}

/// Returns the wall clock's time, as signers read it.
pub fn wall_time() -> SystemTime {
    claviger::lease::Timestamp::now().wall()
}

#[derive(Debug)]
struct WallClock;

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        wall_time()
    }
}

/// Returns a key without a session.
pub fn key(id: &str) -> AwsCredentials {
    AwsCredentials::new(id, "wJalrXUtnFEMI/EXAMPLEKEY", None, None, "test")
}

/// Returns a key with a session token.
pub fn session(id: &str, token: &str, end: Option<SystemTime>) -> AwsCredentials {
    AwsCredentials::new(
        id,
        "wJalrXUtnFEMI/EXAMPLEKEY",
        Some(token.to_owned()),
        end,
        "test",
    )
}

/// A clock that returns one fixed time.
#[derive(Debug)]
pub struct FixedTime(pub SystemTime);

impl TimeSource for FixedTime {
    fn now(&self) -> SystemTime {
        self.0
    }
}

/// Returns a configuration with these credentials and this region, whose clock returns `now`.
pub fn config_signed_by(credentials: AwsCredentials, region: &str, now: SystemTime) -> SdkConfig {
    SdkConfig::builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new(region.to_owned()))
        .time_source(FixedTime(now))
        .build()
}
