//! The conformance kit on a real PostgreSQL.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};

use claviger::pool::CheckPolicy;
use claviger::{Credentials, Endpoint};
use claviger_servers::Postgres;
use claviger_testkit::conformance::{self, ControlError, PoolControls};

use crate::fixture::{ConnectionOf, ONE, connect, server};
use crate::{PgKind, Settings};

/// Port of TCP's port multiplexer, on which no server listens.
const UNUSED_PORT: u16 = 1;

/// A server, and the number of the user's password.
struct Controls<K> {
    server: Postgres,
    password: AtomicU32,
    kind: PhantomData<fn() -> K>,
}

impl<K: PgKind> PoolControls<K::Factory> for Controls<K> {
    fn credentials(&self) -> Credentials {
        let number = self.password.load(Ordering::Acquire);
        Credentials::new("app", format!("password-{number}"))
    }

    fn secret_text(&self, credentials: &Credentials) -> String {
        credentials.expose_password().to_owned()
    }

    async fn change_password(&self) -> Result<(), ControlError> {
        let number = self.password.load(Ordering::Acquire) + 1;
        let password = format!("password-{number}");
        self.server.set_password("app", &password)?;
        self.password.store(number, Ordering::Release);
        Ok(())
    }

    async fn open_connections(&self) -> Result<u32, ControlError> {
        Ok(u32::try_from(self.server.connection_count("app")?)?)
    }

    async fn kill_connections(&self) -> Result<(), ControlError> {
        self.server.terminate_connections("app")?;
        Ok(())
    }

    async fn query(&self, connection: &mut ConnectionOf<K>) -> Result<(), ControlError> {
        K::value(connection, ONE).await?;
        Ok(())
    }

    fn unreachable_credentials(&self) -> Option<Credentials> {
        let endpoint = Endpoint::new(self.server.host(), UNUSED_PORT, "orders");
        let credentials = PoolControls::<K::Factory>::credentials(self);
        Some(credentials.with_endpoint(endpoint))
    }

    async fn rejected_logins(&self) -> Result<Option<u32>, ControlError> {
        let rejected = self.server.log().rejected_logins_of("app")?;
        Ok(Some(u32::try_from(rejected)?))
    }

    async fn set_running(&self, running: bool) -> Result<bool, ControlError> {
        if running {
            self.server.start_again()?;
        } else {
            self.server.stop()?;
        }
        Ok(true)
    }
}

/// Asserts that no check fails, and that exactly the checks `not_applicable` do not apply, beside
/// those of pools that authenticate again.
async fn assert_conforms<K: PgKind>(settings: Settings, not_applicable: &[&str]) {
    let server = server("password-1");
    let factory = K::factory(connect(&server), settings);
    let controls = Controls::<K> {
        server,
        password: AtomicU32::new(1),
        kind: PhantomData,
    };
    let report = conformance::pool(factory, controls).await;
    report.assert_passed();
    let skipped = report.not_applicable();
    let skipped = skipped.filter(|(_, reason)| !reason.contains("`PoolSettings::reauthenticates`"));
    let skipped = skipped.map(|(check, _)| check.name);
    assert_eq!(skipped.collect::<Vec<_>>(), not_applicable, "{report}");
}

pub async fn pools_conform<K: PgKind>() {
    let settings = Settings {
        checks: CheckPolicy::Always,
        ..Settings::of(4)
    };
    assert_conforms::<K>(settings, &[]).await;
}

pub async fn pools_with_a_minimum_and_without_checks_conform<K: PgKind>() {
    let settings = Settings {
        min_connections: 2,
        ..Settings::of(3)
    };
    assert_conforms::<K>(settings, &["killed_connections_are_not_handed_out"]).await;
}
