//! Rehearses a rotation.

use std::sync::Arc;

use super::node::ProviderNode;
use super::{Supervisor, runtime};
use crate::error::Error;
use crate::report::RehearsalReport;

impl Supervisor {
    /// Rehearses a rotation of a provider. Obtains the credential that the next rotation would use,
    /// and logs in with it in each of the provider's pools. Nothing is served, published or closed.
    ///
    /// The credential is a new one, as with [`rotate_now`](Self::rotate_now), or the backend's
    /// pending one. AWS Secrets Manager's `AWSPENDING` is read and not moved; a mounted file is
    /// read again. If the backend has no other credential, the current one is verified, and
    /// [`is_current`](RehearsalReport::is_current) is true. See
    /// [`Provider::rehearse`](crate::Provider::rehearse). A lease that is not served is released
    /// after the last login. The credential of a database user that Vault created is revoked then.
    ///
    /// The report has for each pool whether its logins succeeded, and what a handover would do. It
    /// costs a successful pool two logins, one after the other: one alone, and one with the pool's
    /// hooks. A rejected login counts as any other: all rejected logins of one user stay within
    /// `max_connections` + 3 in 30 s. A pool that has used them up reports an error, and does not
    /// log in. Neither does one without room: while old connections drain, all of a pool's
    /// connections stay within `max_connections` and the overlap. A login waits for room for up to
    /// 1 s.
    ///
    /// Calls within a second share one fetch. A pool verifies one rehearsal at a time, and one
    /// waits for it; further ones end at once with an error in the report. A held provider can be
    /// rehearsed, too.
    ///
    /// ```
    /// # use claviger::{Credentials, Supervisor, static_credentials};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), claviger::Error> {
    /// # let supervisor = Supervisor::start();
    /// # let provider = static_credentials(Credentials::new("orders", "s3cret"));
    /// # supervisor.add_provider("orders-credentials", provider).await?;
    /// let report = supervisor.rehearse("orders-credentials").await?;
    /// for pool in &report.pools {
    ///     match &pool.error {
    ///         None => println!("{}: verified in {:?}", pool.pool, pool.took),
    ///         Some(error) => println!("{}: {error}", pool.pool),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no such provider, or it returned no lease
    /// ([`ErrorKind::Provider`](crate::error::ErrorKind::Provider)). No rehearsal begins while the
    /// release of 8 leases has failed and is repeated. A failed login is in the report. After
    /// shutdown, or outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// The rehearsal continues without the future, and releases its lease.
    pub async fn rehearse(&self, provider: &str) -> Result<RehearsalReport, Error> {
        runtime::check("rehearse")?;
        let node = self.inner.lock().provider(provider)?;
        self.rehearse_in(&node, None).await
    }

    /// Rehearses a rotation in one pool. Otherwise as [`rehearse`](Self::rehearse).
    ///
    /// # Errors
    /// As [`rehearse`](Self::rehearse); when there is no such pool.
    ///
    /// # Cancel safety
    /// As [`rehearse`](Self::rehearse).
    pub async fn rehearse_pool(&self, pool: &str) -> Result<RehearsalReport, Error> {
        runtime::check("rehearse_pool")?;
        let node = {
            let registry = self.inner.lock();
            let provider = registry.pool(pool)?.slot.provider();
            registry.provider(&provider)?
        };
        self.rehearse_in(&node, Some(pool.into())).await
    }

    async fn rehearse_in(
        &self,
        node: &ProviderNode,
        pool: Option<Arc<str>>,
    ) -> Result<RehearsalReport, Error> {
        let work = Arc::clone(&node.slot).rehearse(pool);
        let outcome = self.inner.runtime.spawn(work).await;
        match outcome.map_err(|_| Error::runtime_is_gone())? {
            Some(Ok(report)) => Ok(report),
            Some(Err(error)) => Err(Error::from_manual_rotation(&node.name, error)),
            None => Err(Error::shut_down()),
        }
    }
}
