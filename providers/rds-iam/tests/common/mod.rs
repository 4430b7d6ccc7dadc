//! Shared helpers: scripted and assumed credentials, and providers with them.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "no test file uses all of it"
)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease};
use claviger_rds_iam::RdsIam;
use claviger_servers::Moto;
use claviger_testkit::FetchLease;
use parking_lot::Mutex;

/// The endpoint that tokens are signed for.
pub(crate) const HOST: &str = "orders.c1a2b3.eu-west-1.rds.amazonaws.com";
/// The database user.
pub(crate) const USER: &str = "orders_app";

type Response = Result<AwsCredentials, CredentialsError>;

struct Script {
    respond: Box<dyn FnMut() -> Response + Send>,
    calls: usize,
}

/// Returns credentials by a script. Clones share it.
#[derive(Clone)]
pub(crate) struct Chain(Arc<Mutex<Script>>);

impl Chain {
    /// Creates a chain that returns what `respond` returns, for each call.
    pub(crate) fn scripted(respond: impl FnMut() -> Response + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Script {
            respond: Box::new(respond),
            calls: 0,
        })))
    }

    /// Creates a chain of one key that never expires.
    pub(crate) fn key() -> Self {
        Self::scripted(|| Ok(key("AKIAEXAMPLE")))
    }

    /// Creates a chain of sessions with this lifetime. Each is returned until `margin` before its
    /// end, as a cache does. `issued` receives each key and its end.
    pub(crate) fn sessions(
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
    pub(crate) fn respond_with(&self, respond: impl FnMut() -> Response + Send + 'static) {
        self.0.lock().respond = Box::new(respond);
    }

    /// Returns how often credentials were requested.
    pub(crate) fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// Returns a configuration with this chain and region.
    pub(crate) fn config(&self, region: Option<&'static str>) -> SdkConfig {
        SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(self.clone()))
            .region(region.map(Region::new))
            .time_source(WallClock)
            .build()
    }

    /// Returns a provider on this chain.
    pub(crate) fn provider(&self) -> RdsIam {
        RdsIam::new(&self.config(None), HOST, 5432, USER).expect("the arguments are valid")
    }

    /// Returns a provider on this chain whose tokens have this lifetime.
    pub(crate) fn provider_with_lifetime(&self, lifetime: Duration) -> RdsIam {
        RdsIam::builder(&self.config(None), HOST, 5432, USER)
            .with_lifetime(lifetime)
            .build()
            .expect("the arguments are valid")
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
pub(crate) fn wall_time() -> SystemTime {
    claviger::lease::Timestamp::now().wall()
}

#[derive(Debug)]
struct WallClock;

impl aws_types::sdk_config::TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        wall_time()
    }
}

/// Returns a key without a session.
pub(crate) fn key(id: &str) -> AwsCredentials {
    AwsCredentials::new(id, "wJalrXUtnFEMI/EXAMPLEKEY", None, None, "test")
}

/// Returns a key with a session token.
pub(crate) fn session(id: &str, token: &str, end: Option<SystemTime>) -> AwsCredentials {
    AwsCredentials::new(
        id,
        "wJalrXUtnFEMI/EXAMPLEKEY",
        Some(token.to_owned()),
        end,
        "test",
    )
}

/// Starts a moto server, off the async threads.
pub(crate) async fn start_moto() -> Moto {
    tokio::task::spawn_blocking(|| Moto::start().expect("moto starts"))
        .await
        .expect("its thread ends")
}

/// Returns a configuration for this endpoint, and a chain that assumes a role at its STS.
/// `secret_key` signs the calls to STS.
pub(crate) async fn assume_role(
    endpoint: &str,
    secret_key: &str,
) -> (SdkConfig, AssumeRoleProvider) {
    let key = AwsCredentials::new("AKIAEXAMPLE", secret_key, None, None, "test");
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(key);
    let base = base.endpoint_url(endpoint).load().await;
    let chain = AssumeRoleProvider::builder("arn:aws:iam::123456789012:role/orders")
        .session_name("orders")
        .configure(&base)
        .build()
        .await;
    (base, chain)
}

/// Runs the first fetch of a registration.
pub(crate) async fn first_lease(provider: &RdsIam) -> Lease<Credentials> {
    provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a token is signed")
}

/// Fetches while `current` is the current lease.
pub(crate) async fn fetch_again(
    provider: &RdsIam,
    trigger: RotationTrigger,
    current: &Lease<Credentials>,
) -> Lease<Credentials> {
    let request = FetchRequest::new(trigger).with_current(current.clone());
    let request = if trigger == RotationTrigger::Rejected {
        request.with_rejected([current.revision().clone()])
    } else {
        request
    };
    provider
        .fetch_lease(request)
        .await
        .expect("a lease is returned")
}

/// Returns the token of a lease.
pub(crate) fn token(lease: &Lease<Credentials>) -> &str {
    lease.secret().expose_password()
}

/// Returns a parameter of a token, undecoded.
pub(crate) fn parameter<'t>(token: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = token.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
