//! Holds a provider during an incident.

use std::sync::Arc;

use super::Supervisor;
use crate::error::Error;

impl Supervisor {
    /// Holds a provider: its current lease stays until [`resume`](Self::resume), whatever the
    /// backend has. No fetch begins by schedule, hint or rejection, and
    /// [`rotate_now`](Self::rotate_now) returns an error. The result of a fetch that runs is not
    /// adopted. The backend's new password is therefore not used, even if the database rejects the
    /// current one.
    ///
    /// The current lease is still renewed if the provider implements
    /// [`Provider::renew`](crate::Provider::renew), as that for dynamic users of Vault does.
    /// Otherwise it expires: a 15-minute token that was 5 minutes old at the hold is used for
    /// logins for 10 more minutes. Then no login is attempted, and the service is not ready.
    ///
    /// Takes effect before it returns, and lasts through a crash of the provider's actor. It ends
    /// with `resume`, a removal or the process. Holding a held provider changes nothing. A provider
    /// without a lease still obtains its first one.
    ///
    /// The hold is one line at WARN and the event [`Held`](crate::events::Event::Held). While it
    /// lasts, it is in [`status`](Self::status), in the notes of [`readiness`](Self::readiness),
    /// and in the metric `credential.held`. It does not make the service unready.
    ///
    /// ```
    /// # use claviger::{Credentials, Supervisor, static_credentials};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), claviger::Error> {
    /// # let supervisor = Supervisor::start();
    /// # let provider = static_credentials(Credentials::new("orders", "s3cret"));
    /// # supervisor.add_provider("orders-credentials", provider).await?;
    /// supervisor.hold("orders-credentials")?;
    /// assert!(supervisor.status().providers[0].held.is_some());
    /// assert!(supervisor.readiness().ready);
    /// assert!(supervisor.rotate_now("orders-credentials").await.is_err());
    /// supervisor.resume("orders-credentials")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no such provider, or after shutdown.
    pub fn hold(&self, provider: &str) -> Result<(), Error> {
        self.set_held(provider, true)
    }

    /// Ends the hold of a provider. A fetch that became due during the hold begins at once.
    /// Resuming a provider that is not held changes nothing.
    ///
    /// # Errors
    /// When there is no such provider, or after shutdown.
    pub fn resume(&self, provider: &str) -> Result<(), Error> {
        self.set_held(provider, false)
    }

    fn set_held(&self, provider: &str, held: bool) -> Result<(), Error> {
        let node = self.inner.lock().provider(provider)?;
        Arc::clone(&node.slot).set_held(held);
        Ok(())
    }
}
