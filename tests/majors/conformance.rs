//! sqlx's pools pass the conformance kit on a real server.

use std::sync::atomic::{AtomicU32, Ordering};

use claviger::pool::PoolFactory;
use claviger::{Credentials, Endpoint};
use claviger_testkit::conformance::{self, ControlError, Outcome, PoolControls};

use super::Subject;
use super::fixtures::Server;
use super::fixtures::sqlx;
use super::fixtures::sqlx::pool::PoolOptions;

type Pools = <Subject as Server>::Pools;
type Connection = <Pools as PoolFactory>::Connection;

/// A port on which no server listens: TCP's port multiplexer, which no system has.
const UNUSED_PORT: u16 = 1;

/// A server, and the number of the user's password.
struct Controls {
    server: Subject,
    password: AtomicU32,
}

impl PoolControls<Pools> for Controls {
    fn credentials(&self) -> Credentials {
        let number = self.password.load(Ordering::Acquire);
        Credentials::new("app", format!("password-{number}"))
    }

    fn secret_text(&self, credentials: &Credentials) -> String {
        credentials.expose_password().to_owned()
    }

    async fn change_password(&self) -> Result<(), ControlError> {
        let number = self.password.load(Ordering::Acquire) + 1;
        Server::change_password(&self.server, &format!("password-{number}"));
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

    async fn query(&self, connection: &mut Connection) -> Result<(), ControlError> {
        sqlx::query("SELECT 1").execute(&mut **connection).await?;
        Ok(())
    }

    fn unreachable_credentials(&self) -> Option<Credentials> {
        let endpoint = Endpoint::new(self.server.host(), UNUSED_PORT, "orders");
        Some(self.credentials().with_endpoint(endpoint))
    }

    async fn rejected_logins(&self) -> Result<Option<u32>, ControlError> {
        Ok(Some(u32::try_from(Server::rejected_logins(&self.server))?))
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

async fn conforms(options: PoolOptions<<Subject as Server>::Db>) {
    let server = Subject::start_with_app();
    let factory = Subject::factory(server.options(None), options);
    let controls = Controls {
        server,
        password: AtomicU32::new(1),
    };
    let report = conformance::pool(factory, controls).await;
    report.assert_passed();
    for (check, reason) in report.not_applicable() {
        assert!(
            reason.contains("own_queue") || reason.contains("reauthenticates"),
            "{} is not applicable: {reason}",
            check.name
        );
    }
    let passed = |name| report.check(name).map(|check| &check.outcome) == Some(&Outcome::Passed);
    assert!(passed("failed_logins_are_bounded"), "{report}");
}

#[tokio::test]
async fn pools_conform() {
    conforms(PoolOptions::new().max_connections(4)).await;
}

#[tokio::test]
async fn pools_with_a_minimum_conform() {
    conforms(PoolOptions::new().max_connections(3).min_connections(2)).await;
}
