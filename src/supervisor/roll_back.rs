//! Returns a pool to its previous lease.

use std::sync::Arc;

use super::{Supervisor, runtime};
use crate::error::{Error, ErrorKind};
use crate::pool::{NoRollBack, NotRolledBack};
use crate::report::RotationReport;
use crate::telemetry::Caller;

impl Supervisor {
    /// Returns a pool to its previous lease, and holds its provider until [`resume`](Self::resume).
    ///
    /// The lease is verified, and a *new* generation with it is published, as in any handover. Then
    /// the provider is held, as by [`hold`](Self::hold). The report is that of a rotation with the
    /// trigger [`RollBack`](crate::report::RotationTrigger::RollBack). `resume` returns the pool to
    /// the provider's current lease. Other pools of the provider keep theirs; roll each of them
    /// back if they need it.
    ///
    /// It is possible only while the previous lease is valid and not released. Without
    /// [`with_previous_lease_kept_for`](crate::SupervisorBuilder::with_previous_lease_kept_for)
    /// that is until its last connection has closed. The database must still accept it: after the
    /// rotation of the one user's password it does not, and the error has the SQLSTATE 28P01.
    ///
    /// The previous lease is not renewed. When it is rejected, or when less than about 20 % of its
    /// lifetime is left, the pool returns to the current lease. That is logged at WARN, and the
    /// provider stays held.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use claviger::Supervisor;
    ///
    /// # async fn example() -> Result<(), claviger::Error> {
    /// let supervisor = Supervisor::builder()
    ///     .with_previous_lease_kept_for(Duration::from_secs(900))
    ///     .start()?;
    /// // The new database user lacks a privilege: serve the previous one.
    /// let report = supervisor.roll_back("orders").await?;
    /// println!("generation {}", report.handovers[0].generation);
    /// // Later, when the privilege is granted:
    /// supervisor.resume(&report.provider)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// After each error the current generation stays in use, and the provider is not held.
    /// - [`ErrorKind::NotPossible`]: there is no previous lease, it was released, or it expires
    ///   too soon. Or the pool is rolled back already, or its return to the current lease has not
    ///   ended.
    /// - [`ErrorKind::Pool`]: the one login failed, or none was possible within the start deadline
    ///   (30 s). [`Error::connect_error`] has the SQLSTATE.
    /// - When there is no such pool, after shutdown, or outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// The rollback continues without the future.
    pub async fn roll_back(&self, pool: &str) -> Result<RotationReport, Error> {
        let inner = &self.inner;
        runtime::check("roll_back")?;
        let node = inner.lock().pool(pool)?;
        let work = Arc::clone(&node.slot).roll_back(Caller::current());
        let outcome = inner.runtime.spawn(work).await;
        let error = match outcome.map_err(|_| Error::runtime_is_gone())? {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        Err(match error {
            NotRolledBack::NotVerified(error) => Error::from_rollback(pool, error),
            NotRolledBack::Ended => Error::new(
                ErrorKind::NotPossible,
                format!(
                    "pool {pool:?} was closed, or its previous lease expired, before the login"
                ),
            ),
            NotRolledBack::NotPossible(reason) => {
                let reason = match reason {
                    NoRollBack::NoPrevious => "it has served one lease only".to_owned(),
                    NoRollBack::Current => "its handover to the provider's current lease has not \
                         ended"
                        .to_owned(),
                    NoRollBack::Released => "its previous lease was released; \
                         with_previous_lease_kept_for(…) of the builder keeps it longer"
                        .to_owned(),
                    NoRollBack::Expires => "its previous lease expires too soon".to_owned(),
                    NoRollBack::RolledBack => format!(
                        "it serves its previous lease already; call resume({:?}) first",
                        node.slot.provider()
                    ),
                };
                let message = format!("pool {pool:?} cannot be rolled back: {reason}");
                Error::new(ErrorKind::NotPossible, message)
            }
        })
    }
}
