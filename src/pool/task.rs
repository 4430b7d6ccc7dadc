//! Guard of the pool's tasks, which reports a lost one, and calls of the factory's code before a
//! handover. A panic or a hang of that code is returned as an error.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::factory::PoolFactory;
use super::machine::PoolInput;
use super::slot::PoolSlot;
use crate::context::Context;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::telemetry::{self, InSpan};

/// Guard of a task. Feeds its input on drop, which has an effect only if the task's runtime ended
/// before the task reported its result.
pub(super) struct TaskGuard<F: PoolFactory> {
    pub(super) slot: Arc<PoolSlot<F>>,
    pub(super) if_lost: PoolInput,
}

impl<F: PoolFactory> Drop for TaskGuard<F> {
    fn drop(&mut self) {
        self.slot.feed(self.if_lost.clone(), None);
    }
}

/// Runs a factory's code in a task of its own within the verify deadline, and ends the span. A
/// panic or a passed deadline is returned as an error.
pub(super) async fn run_in_task<T: Send + 'static>(
    code: impl Future<Output = Result<T, ConnectError>> + Send + 'static,
    span: Span,
    context: &Context,
    operation: &str,
) -> Result<T, ConnectError> {
    let inside = InSpan::new(&span);
    let mut task = tokio::spawn(inside.clone().run(code));
    let outcome = match context
        .wait_for(&mut task, context.settings.verify_deadline)
        .await
    {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(ConnectError::new(
            ConnectErrorKind::Other,
            format!("{operation} panicked; see the panic message"),
        )),
        Err(no_response) => {
            task.abort();
            Err(ConnectError::new(
                ConnectErrorKind::Unreachable,
                format!("{operation} did not complete {no_response}"),
            ))
        }
    };
    if let Err(error) = &outcome {
        telemetry::failed(&span, error.kind().as_str(), &error.to_string());
    }
    inside.exit_span();
    telemetry::ended(span);
    outcome
}

/// Shortest time between two connections that a pool closes to make room on a full server. Another
/// client may take the place of each.
const ROOM_EVERY: Duration = Duration::from_secs(15);

/// Runs a login that precedes a handover. If the server or the role has no room for it, closes one
/// idle connection and runs the login once more.
pub(super) async fn retry_with_room<F: PoolFactory, T, L>(
    slot: &PoolSlot<F>,
    secret: &F::Secret,
    login: impl Fn() -> L,
) -> Result<T, ConnectError>
where
    L: Future<Output = Result<T, ConnectError>>,
{
    let outcome = login().await;
    let is_full = outcome
        .as_ref()
        .is_err_and(|error| error.kind() == ConnectErrorKind::Overloaded);
    let (factory, admission) = (slot.factory(), &slot.shared.admission);
    if is_full
        // A connection to another server would make no room on this one.
        && admission.is_current_server(&factory.server(secret))
        && slot.room_is_due()
        && factory.make_room(&slot.shared.current().pool).await
    {
        slot.made_room();
        return login().await;
    }
    outcome
}

impl<F: PoolFactory> PoolSlot<F> {
    fn room_is_due(&self) -> bool {
        let last = *self.last_room.lock();
        last.is_none_or(|last| self.since(last) >= ROOM_EVERY)
    }

    fn made_room(&self) {
        *self.last_room.lock() = Some(self.clock().mono());
    }
}
