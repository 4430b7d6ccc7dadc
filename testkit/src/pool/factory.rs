//! The pool factory of scripted pools.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{
    AcquireError, Check, LoginError, LoginPermits, PoolFactory, PoolSettings, Taken,
};
use claviger::{Credentials, Lease};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{OwnQueue, ScriptedConnection, ScriptedPool, ScriptedPools};

impl PoolFactory for ScriptedPools {
    type Secret = Credentials;
    type Pool = ScriptedPool;
    type Connection = ScriptedConnection;
    type Error = ConnectError;

    fn settings(&self) -> PoolSettings {
        self.call_hook("settings");
        self.lock().settings.clone()
    }

    fn check(&self, _: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.call_hook("check");
        Ok(())
    }

    fn account(&self, _: &Credentials) -> String {
        self.call_hook("account");
        String::new()
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.call_hook("server");
        let endpoint = credentials.endpoint();
        endpoint.map_or_else(String::new, |endpoint| endpoint.host().to_owned())
    }

    async fn make_room(&self, pool: &ScriptedPool) -> bool {
        self.call_hook("make_room");
        let idle = pool.take_idle();
        idle.is_some_and(|connection| {
            self.discard(connection);
            true
        })
    }

    fn vacant(&self) -> ScriptedPool {
        self.call_hook("vacant");
        let pool = ScriptedPool::new("", 0, None);
        pool.inner.closed.store(true, Ordering::Release);
        pool
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        self.call_hook("verify");
        let mut stalled = self.inner.stalled.subscribe();
        let _ = stalled.wait_for(|stalled| !stalled).await;
        let password = credentials.expose_password().to_owned();
        let scripted = self.lock().verify_errors.pop_front();
        let outcome = match scripted.or_else(|| self.rejection_of(&password)) {
            Some(error) => Err(error),
            None => Ok(()),
        };
        self.lock().verifications.push((password, outcome.is_ok()));
        outcome
    }

    async fn verify_as_pool(&self, _: &Credentials, _: Duration) -> Result<(), ConnectError> {
        self.call_hook("verify_as_pool");
        match self.lock().as_pool_errors.pop_front() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<ScriptedPool, ConnectError> {
        self.call_hook("open");
        let mut state = self.lock();
        let max_connections = state.settings.max_connections;
        let own_queue = state.settings.own_queue.then(|| OwnQueue {
            logins,
            places: Arc::new(Semaphore::new(max_connections as usize)),
        });
        let pool = ScriptedPool::new(credentials.expose_password(), max_connections, own_queue);
        state.opened.push(pool.clone());
        Ok(pool)
    }

    async fn warm(
        &self,
        pool: &ScriptedPool,
        connections: u32,
        _: Duration,
    ) -> Result<u32, ConnectError> {
        self.call_hook("warm");
        if pool.inner.own_queue.is_some() {
            let mut opened = Vec::new();
            for _ in 0..connections {
                opened.push(self.get(pool).await?);
            }
            return Ok(pool.size());
        }
        let missing = connections.saturating_sub(pool.size());
        let opened: Vec<_> = (0..missing)
            .map(|_| self.log_in(pool))
            .collect::<Result<_, _>>()?;
        drop(opened);
        Ok(pool.size())
    }

    fn update_in_place(&self, pool: &ScriptedPool, _: &Credentials, new: &Credentials) -> bool {
        self.call_hook("update_in_place");
        let in_place = self.lock().in_place;
        if in_place {
            let mut password = pool.inner.password.lock();
            new.expose_password().clone_into(&mut password);
        }
        in_place
    }

    async fn reauthenticate(&self, _: &ScriptedPool, _: Duration) {
        self.call_hook("reauthenticate");
        let delay = self.lock().reauthentication_delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    async fn drain(&self, pool: ScriptedPool) {
        self.call_hook("drain");
        let delay = self.lock().closing_delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        pool.inner.closed.store(true, Ordering::Release);
        pool.inner.idle.store(0, Ordering::Release);
        loop {
            let returned = pool.inner.returned.notified();
            if pool.inner.busy.load(Ordering::Acquire) == 0 {
                return;
            }
            returned.await;
        }
    }

    fn connections(&self, pool: &ScriptedPool) -> u32 {
        self.call_hook("connections");
        pool.size()
    }

    fn idle(&self, pool: &ScriptedPool) -> u32 {
        self.call_hook("idle");
        pool.inner.idle.load(Ordering::Acquire)
    }

    fn classify(&self, error: &(dyn std::error::Error + 'static)) -> ConnectError {
        self.call_hook("classify");
        error
            .downcast_ref::<ConnectError>()
            .cloned()
            .unwrap_or_else(|| ConnectError::new(ConnectErrorKind::Other, error.to_string()))
    }

    fn try_get(&self, pool: &ScriptedPool) -> Option<Taken<ScriptedConnection>> {
        self.call_hook("try_get");
        if pool.inner.own_queue.is_some() {
            let get = pin!(self.get(pool));
            return match get.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(got) => got.ok(),
                Poll::Pending => None,
            };
        }
        if pool.is_closed() {
            None
        } else {
            pool.take_idle().map(Taken::from)
        }
    }

    async fn get(&self, pool: &ScriptedPool) -> Result<Taken<ScriptedConnection>, ConnectError> {
        self.call_hook("get");
        if let Some(queue) = &pool.inner.own_queue {
            return self.get_from_own_queue(pool, queue).await;
        }
        loop {
            let returned = pool.inner.returned.notified();
            if pool.is_closed() {
                return Err(closed());
            }
            if let Some(connection) = pool.take_idle() {
                return Ok(connection.into());
            }
            if pool.size() < pool.inner.max_connections {
                // Counts as busy until the login has ended.
                let mut opening = pool.connection();
                opening.is_discarded = true;
                self.delay_login().await;
                return self.log_in(pool).map(Taken::from);
            }
            returned.await;
        }
    }

    async fn check_connection(
        &self,
        _: &mut ScriptedConnection,
        _: Check,
    ) -> Result<(), ConnectError> {
        self.call_hook("check_connection");
        match self.lock().check_errors.pop_front() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn discard(&self, mut connection: ScriptedConnection) {
        self.call_hook("discard");
        connection.is_discarded = true;
    }

    fn is_timeout(&self, error: &ConnectError) -> bool {
        self.call_hook("is_timeout");
        error.message() == TIMED_OUT
    }

    fn is_closed(&self, error: &ConnectError) -> bool {
        self.call_hook("is_closed");
        error.message() == CLOSED
    }

    fn error(&self, error: AcquireError<'_>) -> ConnectError {
        self.call_hook("error");
        match error {
            AcquireError::Connect(error) => error.clone(),
            AcquireError::Closed => closed(),
            _ => ConnectError::new(ConnectErrorKind::Other, TIMED_OUT),
        }
    }
}

impl ScriptedPools {
    async fn delay_login(&self) {
        let delay = self.lock().login_delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    async fn get_from_own_queue(
        &self,
        pool: &ScriptedPool,
        queue: &OwnQueue,
    ) -> Result<Taken<ScriptedConnection>, ConnectError> {
        let place = Arc::clone(&queue.places).acquire_owned().await;
        let place = place.map_err(|_| closed())?;
        if pool.is_closed() {
            return Err(closed());
        }
        let idle = pool.take_idle();
        let got = match idle {
            Some(connection) => Ok(connection),
            None => {
                let log_in = || {
                    let (pools, pool) = (self.clone(), pool.clone());
                    async move {
                        pools.delay_login().await;
                        pools.log_in(&pool)
                    }
                };
                queue.logins.log_in(log_in).await
            }
        };
        match got {
            Ok(mut connection) => {
                connection.place = Some(place);
                Ok(connection.into())
            }
            Err(LoginError::Failed(error)) => Err(error),
            Err(_) => Err(closed()),
        }
    }
}

const TIMED_OUT: &str = "timed out while waiting for a connection";
const CLOSED: &str = "the pool is closed";

fn closed() -> ConnectError {
    ConnectError::new(ConnectErrorKind::Other, CLOSED)
}
