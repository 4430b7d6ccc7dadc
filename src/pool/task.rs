//! Running a factory's code where neither its panic nor its silence harms us.

use std::future::Future;

use tracing::Span;

use crate::context::Context;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::telemetry::{self, InSpan};

/// Runs a factory's code in a task of its own under the verify deadline: its panic and its silence
/// are faults like others. The span ends with it.
pub(super) async fn in_a_task<T: Send + 'static>(
    code: impl Future<Output = Result<T, ConnectError>> + Send + 'static,
    span: Span,
    context: &Context,
    what: &str,
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
            format!("{what} panicked; see its own output"),
        )),
        Err(silence) => {
            task.abort();
            Err(ConnectError::new(
                ConnectErrorKind::Unreachable,
                format!("{what} did not complete {silence}"),
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
