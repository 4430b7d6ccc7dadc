//! Leases and tokens of a provider.

use std::time::SystemTime;

use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider};
use claviger_testkit::FetchLease;

/// Runs the first fetch of a registration.
pub async fn first_lease(provider: &impl Provider<Secret = Credentials>) -> Lease<Credentials> {
    provider
        .fetch_lease(FetchRequest::first())
        .await
        .expect("a token is signed")
}

/// Fetches while `current` is the current lease.
pub async fn fetch_again(
    provider: &impl Provider<Secret = Credentials>,
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
pub fn token(lease: &Lease<Credentials>) -> &str {
    lease.secret().expose_password()
}

/// Returns a parameter of a token, undecoded.
pub fn parameter<'t>(token: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = token.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Returns when a token was signed, to the second, by its own date: `20261125T103011Z`.
pub fn signed_at(token: &str) -> SystemTime {
    let date = parameter(token, "X-Amz-Date").expect("it has a date");
    let part = |range: std::ops::Range<usize>| date.get(range).expect("it is complete");
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4),
        part(4..6),
        part(6..8),
        part(9..11),
        part(11..13),
        part(13..15)
    );
    humantime::parse_rfc3339(&text).expect("a date")
}
