//! The state that the proxy's threads share.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{InjectedFault, Request};

/// The state, and a condition variable for its changes.
#[derive(Debug, Default)]
pub(super) struct State {
    facts: Mutex<Facts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) general: Option<InjectedFault>,
    pub(super) particular: BTreeMap<String, InjectedFault>,
    pub(super) log: Vec<Request>,
    pub(super) answers: Vec<String>,
    pub(super) connections: usize,
    /// Returns how often the proxy has been healed.
    healings: u64,
    /// Whether all threads must end.
    ended: bool,
    streams: BTreeMap<u64, (Side, TcpStream)>,
    next_stream: u64,
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Upstream,
}

/// A stream that [`State::end`] closes while this value exists.
#[derive(Debug)]
pub(super) struct Registered<'a> {
    state: &'a State,
    number: u64,
}

impl State {
    pub(super) fn lock(&self) -> MutexGuard<'_, Facts> {
        // The state is consistent after a panic, because each change is a single assignment.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    pub(super) fn set_general(&self, fault: InjectedFault) {
        let mut facts = self.lock();
        if fault == InjectedFault::Refuse {
            facts.close(|side| side == Side::Client);
        }
        facts.general = Some(fault);
    }

    pub(super) fn heal(&self) {
        let mut facts = self.lock();
        facts.general = None;
        facts.particular.clear();
        facts.healings += 1;
        drop(facts);
        self.changed.notify_all();
    }

    /// Closes every stream and prevents new ones.
    pub(super) fn end(&self) {
        let mut facts = self.lock();
        facts.ended = true;
        facts.close(|_| true);
        drop(facts);
        self.changed.notify_all();
    }

    /// Counts a connection and registers it, unless connections are refused.
    pub(super) fn accept(&self, client: &TcpStream) -> io::Result<Registered<'_>> {
        let mut facts = self.lock();
        facts.connections += 1;
        if facts.general == Some(InjectedFault::Refuse) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.register(facts, Side::Client, client)
    }

    /// Registers a connection to the service.
    pub(super) fn connected(&self, upstream: &TcpStream) -> io::Result<Registered<'_>> {
        self.register(self.lock(), Side::Upstream, upstream)
    }

    fn register(
        &self,
        mut facts: MutexGuard<'_, Facts>,
        side: Side,
        stream: &TcpStream,
    ) -> io::Result<Registered<'_>> {
        if facts.ended {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let number = facts.next_stream;
        facts.next_stream += 1;
        facts.streams.insert(number, (side, stream.try_clone()?));
        Ok(Registered {
            state: self,
            number,
        })
    }

    /// Records a request and returns the fault that applies.
    pub(super) fn record(&self, request: Request) -> Option<InjectedFault> {
        let mut facts = self.lock();
        let fault = facts
            .particular
            .get(&request.operation)
            .or(facts.general.as_ref())
            .cloned();
        facts.log.push(request);
        fault
    }

    /// Waits until the proxy is healed or ends.
    pub(super) fn wait_for_healing(&self) {
        let facts = self.lock();
        let before = facts.healings;
        let waited = self
            .changed
            .wait_while(facts, |facts| facts.healings == before && !facts.ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for this long, or until the proxy ends.
    pub(super) fn wait(&self, time: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), time, |facts| !facts.ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Facts {
    fn close(&mut self, which: impl Fn(Side) -> bool) {
        for (side, stream) in self.streams.values() {
            if which(*side) {
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
