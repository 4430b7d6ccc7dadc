//! A service with dynamic users of the database engine, by AppRole.

use std::time::Duration;

use claviger::error::ProviderError;
use claviger::events::{Event, Events};
use claviger::{Handle, PgPools, Supervisor, SupervisorBuilder};
use claviger_fixtures::{Callers, Tally};
use claviger_servers::Postgres;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
use claviger_vault_fixtures::{Identity, MOUNT, ROLE, Revocation, VaultFixture};

pub(crate) struct Service {
    pub(crate) fixture: VaultFixture<Postgres>,
    pub(crate) db: Handle<PgPools>,
    events: Events,
}

/// Returns the AppRole's session, through the proxy.
pub(crate) fn session(
    fixture: &VaultFixture<Postgres>,
    Identity { role_id, secret_id }: Identity,
) -> VaultSession {
    VaultSession::new(
        fixture.proxy.endpoint(),
        Auth::app_role(role_id, SecretId::given(secret_id)),
    )
    .expect("the settings are valid")
}

pub(crate) fn dynamic(session: &VaultSession) -> VaultDynamic {
    VaultDynamic::new(session, MOUNT, ROLE).expect("the settings are valid")
}

/// Checks that queries failed only on connections of dropped users, at most one on each. A
/// statement may run after the user lost its rights and before its connection is terminated.
pub(crate) fn assert_only_dropped_users_failed(tally: &Tally, connections: usize) {
    let is_without_rights =
        |error: &&String| error.contains("permission denied") || error.contains("does not exist");
    let without_rights = tally.failed.iter().filter(is_without_rights).count();
    assert_eq!(without_rights, tally.failed.len(), "{:?}", tally.failed);
    assert!(
        without_rights as u64 + tally.interrupted <= connections as u64,
        "{without_rights} without rights and {} interrupted",
        tally.interrupted
    );
}

impl Service {
    /// Starts a service whose users have these lifetimes, in seconds.
    pub(crate) async fn start(ttl: u64, max_ttl: u64, revocation: Revocation) -> Self {
        Self::with(Supervisor::builder(), ttl, max_ttl, revocation).await
    }

    pub(crate) async fn with(
        builder: SupervisorBuilder,
        ttl: u64,
        max_ttl: u64,
        revocation: Revocation,
    ) -> Self {
        let fixture = VaultFixture::with(builder, ttl, max_ttl, revocation).await;
        let session = session(&fixture, fixture.identity().await);
        let events = fixture.supervisor.events();
        let db = fixture.pool(dynamic(&session)).await;
        Self {
            fixture,
            db,
            events,
        }
    }

    pub(crate) fn callers(&self, sql: &'static str) -> Callers {
        Callers::start_with_pause(&self.db, 8, sql, Duration::from_millis(10))
    }

    /// Waits for the next failed fetch and returns its error.
    pub(crate) async fn fetch_fails(&mut self) -> ProviderError {
        let failure = async {
            loop {
                if let Event::FetchFailed { error, .. } =
                    self.events.next().await.expect("it continues")
                {
                    return error;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), failure)
            .await
            .expect("a fetch fails")
    }

    /// Returns the time until the current lease expires.
    pub(crate) fn time_left(&self) -> Duration {
        self.fixture.supervisor.status().providers[0]
            .remaining
            .expect("it has an end")
    }

    /// Returns the database user of the pool's connections.
    pub(crate) async fn user(&self) -> String {
        sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&self.db)
            .await
            .expect("it succeeds")
    }

    /// Shuts the service down and checks that nothing is left; returns how often the database
    /// rejected active credentials.
    pub(crate) async fn shutdown_and_check(mut self) -> usize {
        self.fixture.shutdown_and_check().await;
        let mut rejected = 0;
        while let Some(event) = self.events.next().await {
            rejected += usize::from(matches!(event, Event::Rejected { .. }));
        }
        rejected
    }

    pub(crate) async fn rotate(&self) {
        self.fixture
            .supervisor
            .rotate_now("login")
            .await
            .expect("there is a new user");
    }

    pub(crate) async fn rotation_fails(&self) -> ProviderError {
        let error = self
            .fixture
            .supervisor
            .rotate_now("login")
            .await
            .expect_err("there is no new user");
        error
            .provider_error()
            .cloned()
            .expect("it is the provider's")
    }
}
