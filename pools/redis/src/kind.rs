//! Kinds of connections that all callers share.

use std::future::Future;
use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Client, ErrorKind, PushInfo, PushKind, RedisError, RedisResult};

use crate::address::Logins;
use crate::connection::State;
use crate::credentials::Verified;

/// A kind of connection that all callers share: [`Multiplexed`], and with features
/// `ConnectionManager` and the cluster's client. Sealed.
pub trait Kind: sealed::Connect + Send + Sync + 'static {}

pub(crate) mod sealed {
    use super::{Arc, ConnectionLike, Future, Logins, RedisResult, State, Verified};

    pub trait Connect {
        /// The connection of redis-rs. Its clones share one or more connections to a server.
        type Connection: ConnectionLike + Clone + Send + Sync + 'static;

        /// Name of the kind, for `Debug`.
        const NAME: &'static str;

        /// Whether redis-rs opens it again when it ends.
        const RECONNECTS: bool = false;

        /// Logs in, and records in `state` what happens to the connection later.
        fn connect(
            logins: Logins,
            verified: Verified,
            state: Arc<State>,
        ) -> impl Future<Output = RedisResult<Self::Connection>> + Send + 'static;
    }
}

/// One connection that sends the commands of all callers and reads their responses in order:
/// redis-rs's [`MultiplexedConnection`].
#[derive(Clone, Copy, Debug)]
pub enum Multiplexed {}

impl Kind for Multiplexed {}

impl sealed::Connect for Multiplexed {
    type Connection = MultiplexedConnection;

    const NAME: &'static str = "Multiplexed";

    async fn connect(
        logins: Logins,
        verified: Verified,
        state: Arc<State>,
    ) -> RedisResult<MultiplexedConnection> {
        let node = first_node(&logins)?;
        let (subscriptions, authentications) = verified.for_connection();
        state.set_authentications(authentications);
        let config = logins
            .config()
            .set_credentials_provider(subscriptions)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    state.note_broken();
                }
                Ok::<_, RedisError>(())
            });
        Client::open(node)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

pub(crate) fn first_node(logins: &Logins) -> RedisResult<redis::ConnectionInfo> {
    let node = logins.nodes.first().cloned();
    node.ok_or_else(|| (ErrorKind::InvalidClientConfig, "no address").into())
}
