//! Work inside of a span that may end before it. Work that hangs must not keep its span from being
//! exported.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use tracing::Span;

use crate::lock::Mutex;

/// The span of some work, until the work exits it.
#[derive(Clone, Debug)]
pub(crate) struct InSpan(Arc<Mutex<Span>>);

impl InSpan {
    pub(crate) fn new(span: &Span) -> Self {
        Self(Arc::new(Mutex::new(span.clone())))
    }

    /// Runs the work, which enters the span whenever it is polled.
    pub(crate) async fn run<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let span = self.0.lock().clone();
            span.in_scope(|| work.as_mut().poll(context))
        })
        .await
    }

    /// Exits the span. The work continues without it.
    pub(crate) fn exit_span(&self) {
        // Dropped without the lock that the work needs, because a layer that observes its end may
        // be slow.
        let last = std::mem::replace(&mut *self.0.lock(), Span::none());
        drop(last);
    }
}
