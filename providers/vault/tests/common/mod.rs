//! Shared helpers: sessions, the secret `kv/orders`, and checks of errors.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "no test file uses all of it"
)]

use std::fs;
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::provider::FetchRequest;
use claviger::{Credentials, Lease, Provider, Supervisor};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, VaultKv, VaultSession};
use tempfile::NamedTempFile;

/// Returns a session at this address.
pub(crate) fn session(address: impl Into<String>, auth: Auth) -> VaultSession {
    VaultSession::new(address, auth).expect("the settings are valid")
}

/// Returns a provider of the secret `kv/orders`.
pub(crate) fn kv(session: &VaultSession) -> VaultKv {
    VaultKv::new(session, "kv", "orders").expect("a path")
}

/// Runs the first fetch of a registration.
pub(crate) async fn fetch<P: Provider<Secret = Credentials>>(
    provider: &P,
) -> Result<Lease<Credentials>, ProviderError> {
    provider.fetch_lease(FetchRequest::first()).await
}

/// Creates a file with this content.
pub(crate) fn temp_file(content: impl AsRef<[u8]>) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, content).expect("it is written");
    file
}

/// Starts a supervisor that polls each second.
pub(crate) fn polling_supervisor() -> Supervisor {
    Supervisor::builder()
        .with_poll_interval(Duration::from_secs(1))
        .start()
        .expect("the settings are valid")
}

/// Checks kind and text of a permanent error.
pub(crate) fn assert_permanent(error: &ProviderError, kind: ProviderErrorKind, expected: &str) {
    assert_eq!(
        (error.kind(), error.is_transient()),
        (kind, false),
        "{error}"
    );
    assert!(error.to_string().contains(expected), "{error}");
}

/// Checks that a registration fails at once, and returns the provider's error.
pub(crate) async fn registration_error<P: Provider>(provider: P) -> ProviderError {
    let supervisor = Supervisor::start();
    let registered = tokio::time::timeout(
        Duration::from_secs(15),
        supervisor.add_provider("login", provider),
    )
    .await;
    let error = registered
        .expect("a permanent error is returned at once")
        .map(drop)
        .expect_err("the provider returns no lease");
    supervisor.shutdown(Duration::from_secs(5)).await;
    error.provider_error().cloned().expect("the provider's own")
}
