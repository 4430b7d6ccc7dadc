//! Shared helpers: a scripted credentials chain, and a provider on it.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "no test file uses all of it"
)]

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease};
use claviger_rds_iam::RdsIam;
use claviger_testkit::FetchLease;

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
    pub(crate) fn of(respond: impl FnMut() -> Response + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Script {
            respond: Box::new(respond),
            calls: 0,
        })))
    }

    /// Creates a chain of one key that never expires.
    pub(crate) fn key() -> Self {
        Self::of(|| Ok(key("AKIAEXAMPLE")))
    }

    /// Creates a chain of sessions with this lifetime. Each is returned until `kept` before its
    /// end, as a cache does. `issued` receives each key and its end.
    pub(crate) fn sessions(
        lifetime: Duration,
        kept: Duration,
        issued: impl Fn(&str, SystemTime) + Send + 'static,
    ) -> Self {
        let (mut number, mut current) = (0, None::<(AwsCredentials, SystemTime)>);
        Self::of(move || {
            let now = now();
            if let Some((session, end)) = &current
                && now + kept < *end
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
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .respond = Box::new(respond);
    }

    /// Returns how often credentials were requested.
    pub(crate) fn calls(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).calls
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
    pub(crate) fn provider_of(&self, lifetime: Duration) -> RdsIam {
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
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        script.calls += 1;
        future::ProvideCredentials::ready((script.respond)())
    }
}

/// Returns the wall clock's time, as signers read it.
pub(crate) fn now() -> SystemTime {
    claviger::lease::Timestamp::now().wall()
}

#[derive(Debug)]
struct WallClock;

impl aws_types::sdk_config::TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        now()
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

/// Runs the first fetch of a registration.
pub(crate) async fn first(provider: &RdsIam) -> Lease<Credentials> {
    provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a token is signed")
}

/// Fetches while `current` is the current lease.
pub(crate) async fn again(
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
