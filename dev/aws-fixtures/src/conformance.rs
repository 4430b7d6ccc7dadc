//! The conformance kit on a provider of tokens.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
use claviger::{Credentials, Provider};
use claviger_testkit::conformance::{self, ControlError, ProviderControls};

use crate::{Chain, key};

/// Lifetime of tokens.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The AWS credentials that sign tokens, and the number of their key.
struct Controls {
    chain: Chain,
    key: AtomicU32,
}

impl Controls {
    fn respond(&self) {
        let id = format!("AKIA{}", self.key.load(Ordering::Acquire));
        self.chain.respond_with(move || Ok(key(&id)));
    }
}

impl<P: Provider<Secret = Credentials>> ProviderControls<P> for Controls {
    fn secret_text(&self, secret: &Credentials) -> String {
        secret.expose_password().to_owned()
    }

    async fn change_credential(&self) -> Result<bool, ControlError> {
        self.key.fetch_add(1, Ordering::AcqRel);
        self.respond();
        Ok(true)
    }

    async fn set_available(&self, available: bool) -> Result<bool, ControlError> {
        if available {
            self.respond();
        } else {
            let limit = Duration::from_secs(5);
            let error = move || Err(CredentialsError::provider_timed_out(limit));
            self.chain.respond_with(error);
        }
        Ok(true)
    }

    fn creates_credentials(&self) -> bool {
        true
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(LIFETIME)
    }
}

/// Runs the conformance kit on a provider of tokens with a lifetime of 15 min. `provider` creates
/// it with a configuration whose time is the supervisor's.
///
/// # Panics
/// Panics unless every check that applies passes.
pub async fn assert_conforms<P>(provider: impl FnOnce(&SdkConfig) -> P)
where
    P: Provider<Secret = Credentials>,
{
    let chain = Chain::key();
    let mut config = chain.config(Some("eu-west-1")).into_builder();
    config.set_time_source(None::<aws_types::sdk_config::SharedTimeSource>);
    let provider = provider(&config.build());
    let key = AtomicU32::new(1);
    let report = conformance::provider(provider, Controls { chain, key }).await;
    report.assert_passed();
    for (check, reason) in report.not_applicable() {
        let is_expected = reason.contains("`reports_changes`") || reason.contains("`released`");
        assert!(is_expected, "{check}");
    }
}
