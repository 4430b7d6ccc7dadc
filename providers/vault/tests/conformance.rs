//! needs: postgresql, openbao, quiet
//!
//! The providers pass the conformance kit.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger::{Credentials, Provider};
use claviger_servers::postgres::quote_literal;
use claviger_servers::{InjectedFault, Postgres, Proxy};
use claviger_testkit::conformance::{self, ControlError, ProviderControls};
use claviger_vault::{Auth, VaultDynamic, VaultSession, VaultStatic};
use claviger_vault_fixtures::{Admin, AsyncAdmin, ROLE, Revocation, VaultFixture};
use common::{kv, session};
use serde_json::{Value, json};

/// Lifetime of dynamic users, in seconds. None expires while the kit runs.
const TTL: u64 = 600;

/// An engine of the server, and the provider for it.
trait Engine: Send + Sync + 'static {
    type Provider: Provider<Secret = Credentials>;
    const CREATES_CREDENTIALS: bool = false;
    const LIFETIME: Option<Duration> = None;

    fn change_credential(&self, admin: &Admin) -> Result<(), ControlError>;

    fn released(&self, _admin: &Admin, _proxy: &Proxy) -> Result<Option<u32>, ControlError> {
        Ok(None)
    }

    fn is_accepted(&self, _secret: &Credentials) -> Result<Option<bool>, ControlError> {
        Ok(None)
    }
}

/// An engine, and the proxy through which the provider uses it.
struct Controls<E> {
    engine: E,
    admin: Arc<Admin>,
    proxy: Arc<Proxy>,
}

impl<E: Engine> ProviderControls<E::Provider> for Controls<E> {
    fn secret_text(&self, secret: &Credentials) -> String {
        secret.expose_password().to_owned()
    }

    async fn change_credential(&self) -> Result<bool, ControlError> {
        self.engine.change_credential(&self.admin)?;
        Ok(true)
    }

    async fn set_available(&self, available: bool) -> Result<bool, ControlError> {
        if available {
            self.proxy.heal();
        } else {
            self.proxy.fault(InjectedFault::Refuse);
        }
        Ok(true)
    }

    async fn released(&self) -> Result<Option<u32>, ControlError> {
        self.engine.released(&self.admin, &self.proxy)
    }

    async fn is_accepted(&self, secret: &Credentials) -> Result<Option<bool>, ControlError> {
        self.engine.is_accepted(secret)
    }

    fn creates_credentials(&self) -> bool {
        E::CREATES_CREDENTIALS
    }

    fn lifetime(&self) -> Option<Duration> {
        E::LIFETIME
    }
}

/// The secret `kv/orders`, and the number of its password.
struct Kv(AtomicU32);

impl Engine for Kv {
    type Provider = claviger_vault::VaultKv;

    fn change_credential(&self, admin: &Admin) -> Result<(), ControlError> {
        let number = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        let password = format!("password-{number}");
        admin.put(&json!({ "username": "app", "password": password }))
    }
}

/// The dynamic role `orders`, whose users are on this database.
struct Dynamic(Arc<Postgres>);

impl Engine for Dynamic {
    type Provider = VaultDynamic;
    const CREATES_CREDENTIALS: bool = true;
    const LIFETIME: Option<Duration> = Some(Duration::from_secs(TTL));

    /// Revokes all users.
    fn change_credential(&self, admin: &Admin) -> Result<(), ControlError> {
        let leases = admin.leases(ROLE)?;
        leases
            .iter()
            .try_for_each(|lease| admin.revoke_lease(lease))
    }

    /// Returns how many of the leases that the server has returned are gone.
    fn released(&self, admin: &Admin, proxy: &Proxy) -> Result<Option<u32>, ControlError> {
        let id = |body: &String| {
            let body: Value = serde_json::from_str(body).ok()?;
            let id = body["lease_id"].as_str()?;
            id.starts_with("database/creds/").then(|| id.to_owned())
        };
        let created: HashSet<_> = proxy.responses().iter().filter_map(id).collect();
        let open: HashSet<_> = admin.leases(ROLE)?.into_iter().collect();
        Ok(Some(u32::try_from(created.difference(&open).count())?))
    }

    fn is_accepted(&self, secret: &Credentials) -> Result<Option<bool>, ControlError> {
        let user = quote_literal(secret.user());
        let count = format!("SELECT count(*) FROM pg_roles WHERE rolname = {user}");
        Ok(Some(self.0.sql(&count)? == "1"))
    }
}

/// The static role `app`.
struct Static;

impl Engine for Static {
    type Provider = VaultStatic;

    fn change_credential(&self, admin: &Admin) -> Result<(), ControlError> {
        admin.rotate_role("app")
    }
}

async fn conforms<E: Engine>(
    provider: impl FnOnce(&VaultSession) -> E::Provider,
    controls: Controls<E>,
    expected_reasons: &[&str],
) {
    let admin = Arc::clone(&controls.admin);
    let token = tokio::task::spawn_blocking(move || admin.token(json!({ "ttl": "24h" })));
    let token = token.await.expect("no panic").expect("a token");
    let session = session(controls.proxy.endpoint(), Auth::token(token));
    let report = conformance::provider(provider(&session), controls).await;
    report.assert_passed();
    for (check, reason) in report.not_applicable() {
        let is_expected = expected_reasons.iter().any(|part| reason.contains(part));
        assert!(is_expected, "{check}");
    }
}

#[tokio::test]
async fn the_kv_provider_conforms() {
    let admin = AsyncAdmin::with_a_secret().await;
    let controls = Controls {
        engine: Kv(AtomicU32::new(1)),
        proxy: Arc::new(admin.proxy()),
        admin: admin.admin,
    };
    conforms(
        kv,
        controls,
        &["`reports_changes`", "`lifetime`", "`released`"],
    )
    .await;
}

#[tokio::test]
async fn the_provider_of_dynamic_users_conforms() {
    let fixture = VaultFixture::<Postgres>::new(TTL, 2 * TTL, Revocation::Default).await;
    let controls = Controls {
        engine: Dynamic(Arc::clone(&fixture.server)),
        admin: Arc::clone(&fixture.admin),
        proxy: Arc::clone(&fixture.proxy),
    };
    let provider =
        |session: &VaultSession| VaultDynamic::new(session, "database", ROLE).expect("a role");
    conforms(provider, controls, &["`reports_changes`"]).await;
}

#[tokio::test]
async fn the_provider_of_static_roles_conforms() {
    let fixture = VaultFixture::<Postgres>::new(TTL, 2 * TTL, Revocation::Default).await;
    fixture.admin(|admin| admin.static_role("app", 3_600)).await;
    let controls = Controls {
        engine: Static,
        admin: Arc::clone(&fixture.admin),
        proxy: Arc::clone(&fixture.proxy),
    };
    let provider =
        |session: &VaultSession| VaultStatic::new(session, "database", "app").expect("a role");
    let expected = ["`reports_changes`", "`lifetime`", "`released`"];
    conforms(provider, controls, &expected).await;
}
