//! Work inside of a span that may end before it. Work that hangs must not keep its span from being
//! exported.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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
    pub(crate) async fn run<T>(self, work: impl Future<Output = T> + Send + 'static) -> T {
        Entering {
            span: self,
            work: Box::pin(work),
        }
        .await
    }

    /// Exits the span. The work continues without it.
    pub(crate) fn exit_span(&self) {
        // Dropped without the lock that the work needs, because a layer that observes its end may
        // be slow.
        let last = std::mem::replace(&mut *self.0.lock(), Span::none());
        drop(last);
    }

    fn current(&self) -> Span {
        self.0.lock().clone()
    }
}

struct Entering<T> {
    span: InSpan,
    work: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Future for Entering<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let span = self.span.current();
        span.in_scope(|| self.work.as_mut().poll(context))
    }
}
