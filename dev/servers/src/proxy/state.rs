//! The state that the proxy's threads share.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{InjectedFault, Request};

/// The state, and a condition variable for its changes.
#[derive(Debug, Default)]
pub(super) struct ProxyState {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) default_fault: Option<InjectedFault>,
    pub(super) operation_faults: BTreeMap<String, InjectedFault>,
    pub(super) log: Vec<Request>,
    pub(super) responses: Vec<String>,
    pub(super) connections: usize,
    /// Number of times that the proxy has been healed.
    healings: u64,
    /// Whether all threads must end.
    ended: bool,
    streams: BTreeMap<u64, (Side, TcpStream)>,
    next_stream: u64,
}

/// The other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Upstream,
}

/// A stream that [`ProxyState::end`] closes while this value exists.
#[derive(Debug)]
pub(super) struct Registered<'a> {
    state: &'a ProxyState,
    number: u64,
}

impl ProxyState {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // The state is consistent after a panic, because each change is a single assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    pub(super) fn set_default_fault(&self, fault: InjectedFault) {
        let mut inner = self.lock();
        if fault == InjectedFault::Refuse {
            inner.close(|side| side == Side::Client);
        }
        inner.default_fault = Some(fault);
    }

    pub(super) fn heal(&self) {
        let mut inner = self.lock();
        inner.default_fault = None;
        inner.operation_faults.clear();
        inner.healings += 1;
        drop(inner);
        self.changed.notify_all();
    }

    /// Closes every stream and prevents new ones.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.close(|_| true);
        drop(inner);
        self.changed.notify_all();
    }

    /// Counts a connection and registers it, unless connections are refused.
    pub(super) fn accept(&self, client: &TcpStream) -> io::Result<Registered<'_>> {
        let mut inner = self.lock();
        inner.connections += 1;
        if inner.default_fault == Some(InjectedFault::Refuse) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.register(inner, Side::Client, client)
    }

    /// Registers a connection to the service.
    pub(super) fn register_upstream(&self, upstream: &TcpStream) -> io::Result<Registered<'_>> {
        self.register(self.lock(), Side::Upstream, upstream)
    }

    fn register(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        side: Side,
        stream: &TcpStream,
    ) -> io::Result<Registered<'_>> {
        if inner.ended {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let number = inner.next_stream;
        inner.next_stream += 1;
        inner.streams.insert(number, (side, stream.try_clone()?));
        Ok(Registered {
            state: self,
            number,
        })
    }

    /// Records a request and returns the fault that applies.
    pub(super) fn record(&self, request: Request) -> Option<InjectedFault> {
        let mut inner = self.lock();
        let fault = inner
            .operation_faults
            .get(&request.operation)
            .or(inner.default_fault.as_ref())
            .cloned();
        inner.log.push(request);
        fault
    }

    /// Waits until the proxy is healed or ends.
    pub(super) fn wait_for_healing(&self) {
        let inner = self.lock();
        let before = inner.healings;
        let waited = self
            .changed
            .wait_while(inner, |inner| inner.healings == before && !inner.ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for this long, or until the proxy ends.
    pub(super) fn wait(&self, time: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), time, |inner| !inner.ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Inner {
    fn close(&mut self, closes: impl Fn(Side) -> bool) {
        for (side, stream) in self.streams.values() {
            if closes(*side) {
                // The other side may have closed it already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.state.lock().streams.remove(&self.number);
    }
}
