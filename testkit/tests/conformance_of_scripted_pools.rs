//! Scripted pools pass the conformance kit, except for checks that need a server.

use std::sync::atomic::{AtomicU32, Ordering};

use claviger::Credentials;
use claviger::pool::PoolFactory;
use claviger_testkit::conformance::{self, ControlError, PoolControls};
use claviger_testkit::{ScriptedConnection, ScriptedPools};

/// The script, and the number of the password that it accepts.
struct Script {
    pools: ScriptedPools,
    number: AtomicU32,
}

impl Script {
    fn new(pools: ScriptedPools) -> Self {
        pools.accept_only(["s3cret-1"]);
        Self {
            pools,
            number: AtomicU32::new(1),
        }
    }
}

impl PoolControls<ScriptedPools> for Script {
    fn credentials(&self) -> Credentials {
        let number = self.number.load(Ordering::Acquire);
        Credentials::new("app", format!("s3cret-{number}"))
    }

    fn secret_text(&self, credentials: &Credentials) -> String {
        credentials.expose_password().to_owned()
    }

    async fn change_password(&self) -> Result<(), ControlError> {
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        self.pools.accept_only([format!("s3cret-{number}")]);
        Ok(())
    }

    async fn open_connections(&self) -> Result<u32, ControlError> {
        let pools = self.pools.opened();
        Ok(pools.iter().map(|pool| self.pools.connections(pool)).sum())
    }

    /// Nothing is open between two checks, because each drains its pools.
    async fn kill_connections(&self) -> Result<(), ControlError> {
        Ok(())
    }

    async fn query(&self, _: &mut ScriptedConnection) -> Result<(), ControlError> {
        Ok(())
    }

    async fn rejected_logins(&self) -> Result<Option<u32>, ControlError> {
        let logins = self.pools.logins();
        let rejected = logins.iter().filter(|accepted| !**accepted).count();
        Ok(Some(u32::try_from(rejected + self.pools.rejected())?))
    }

    fn not_applicable(&self, check: &str) -> Option<String> {
        (check == "check_connection_finds_killed_connections")
            .then(|| "no server ends the connections of a scripted pool".to_owned())
    }
}

#[tokio::test]
async fn scripted_pools_conform() {
    let pools = ScriptedPools::new(4);
    conformance::pool(pools.clone(), Script::new(pools))
        .await
        .assert_passed();
}

#[tokio::test]
async fn scripted_pools_with_their_own_queue_conform() {
    let pools = ScriptedPools::new(4).with_own_queue();
    conformance::pool(pools.clone(), Script::new(pools))
        .await
        .assert_passed();
}
