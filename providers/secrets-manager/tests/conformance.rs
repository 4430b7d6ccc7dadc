//! needs: moto, quiet
//!
//! The provider passes the conformance kit.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};

use claviger::Credentials;
use claviger_secrets_fixtures::{Secret, aws, secret_text, start_moto};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{InjectedFault, Proxy};
use claviger_testkit::conformance::{self, ControlError, ProviderControls};

/// A secret, the number of its password, and the proxy through which the provider reads it.
struct Controls {
    secret: Secret,
    password: AtomicU32,
    proxy: Proxy,
}

impl ProviderControls<SecretsManager> for Controls {
    fn secret_text(&self, secret: &Credentials) -> String {
        secret.expose_password().to_owned()
    }

    async fn change_credential(&self) -> Result<bool, ControlError> {
        let number = self.password.fetch_add(1, Ordering::AcqRel) + 1;
        let text = secret_text(&format!("password-{number}"));
        self.secret.put("AWSCURRENT", &text).await;
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
}

#[tokio::test]
async fn the_provider_conforms() {
    let moto = start_moto().await;
    let (secret, _) = Secret::create(&moto, "orders", &secret_text("password-1")).await;
    let proxy = Proxy::start(&moto.endpoint()).expect("a proxy starts");
    let provider = SecretsManager::new(&aws(&proxy.endpoint()), "orders");
    let controls = Controls {
        secret,
        password: AtomicU32::new(1),
        proxy,
    };
    let report = conformance::provider(provider.expect("the settings are valid"), controls).await;
    report.assert_passed();
    for (check, reason) in report.not_applicable() {
        let expected = ["`reports_changes`", "`lifetime`", "`released`"];
        let is_expected = expected.iter().any(|part| reason.contains(part));
        assert!(is_expected, "{check}");
    }
}
