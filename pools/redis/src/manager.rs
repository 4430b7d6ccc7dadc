//! redis-rs's `ConnectionManager`, which reconnects by itself.

use std::sync::Arc;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, IntoConnectionInfo, RedisResult};

use claviger::error::ConnectError;

use crate::RedisPools;
use crate::address::{self, Logins};
use crate::connection::State;
use crate::credentials::Verified;
use crate::kind::{Kind, first_node, sealed};
use crate::reconnecting::Reconnecting;

/// One connection, which redis-rs opens again when it ends: its [`ConnectionManager`]. A guard
/// outlives restarts of the server.
///
/// A manager whose reconnect was rejected returns that error forever. The next
/// [`Handle::get`](claviger::Handle::get) therefore replaces it.
#[derive(Clone, Copy, Debug)]
pub enum Managed {}

impl Kind for Managed {}

impl sealed::Connect for Managed {
    type Connection = ConnectionManager;

    const NAME: &'static str = "Managed";
    const RECONNECTS: bool = true;

    async fn connect(
        logins: Logins,
        verified: Verified,
        state: Arc<State>,
    ) -> RedisResult<ConnectionManager> {
        let client = Client::open(first_node(&logins)?)?;
        let provider = Reconnecting::new(verified, &state);
        state.set_client(provider.client());
        // A retry would repeat a rejected login.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(logins.connection_timeout))
            .set_response_timeout(logins.response_timeout)
            .set_credentials_provider(provider);
        ConnectionManager::new_with_config(client, config).await
    }
}

impl RedisPools<Managed> {
    /// Creates a factory of [`ConnectionManager`]s for a server. Addresses and errors are those of
    /// [`RedisPools::new`].
    ///
    /// # Errors
    /// As [`RedisPools::new`].
    pub fn managed(address: impl IntoConnectionInfo) -> Result<Self, ConnectError> {
        Ok(Self::with_logins(Logins::new(vec![address::parse(
            address,
        )?])))
    }
}
