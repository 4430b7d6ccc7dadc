//! A cluster of several servers, each a Redis of its own.

use std::path::Path;

use super::{CommandError, Redis, RedisBuilder};
use crate::error::{StartError, io};
use crate::tls::{CERTIFICATE_FILE, KEY_FILE};

/// Number of slots of every cluster.
const SLOTS: usize = 16_384;

/// A running [Redis Cluster](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/)
/// without replicas, whose nodes share the slots evenly. Dropping it stops the nodes.
///
/// While a node is stopped, the others serve their slots. A node that is
/// [started again](Redis::start_again) has the slots that it had.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Returns the nodes. A user is created on each of them.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Returns the PEM file of the authority that signed the certificate of all nodes, or `None`
    /// without TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.nodes.first()?.ca_file()
    }

    /// Creates a user on each node, as [`Redis::set_user`].
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn set_user(&self, user: &str, password: &str) -> Result<(), CommandError> {
        let mut nodes = self.nodes.iter();
        nodes.try_for_each(|node| node.set_user(user, password))
    }

    /// Replaces all passwords of a user on each node, one after the other.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), CommandError> {
        let mut nodes = self.nodes.iter();
        nodes.try_for_each(|node| node.set_password(user, password))
    }

    /// Closes the user's connections to each node, and returns how many there were.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn kill_connections(&self, user: &str) -> Result<u64, CommandError> {
        self.sum(|node| node.kill_connections(user))
    }

    /// Returns how many logins of this user the nodes have rejected, as
    /// [`Redis::rejected_logins_of`].
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn rejected_logins_of(&self, user: &str) -> Result<u64, CommandError> {
        self.sum(|node| node.rejected_logins_of(user))
    }

    fn sum(
        &self,
        count: impl Fn(&Redis) -> Result<u64, CommandError>,
    ) -> Result<u64, CommandError> {
        let mut nodes = self.nodes.iter();
        nodes.try_fold(0, |sum, node| Ok(sum + count(node)?))
    }
}

impl RedisBuilder {
    /// Starts a cluster of this many nodes with these settings. Waits until each serves its slots,
    /// which takes about 2 s.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_cluster(mut self, nodes: usize) -> Result<RedisCluster, StartError> {
        (self.cluster, self.has_all_slots) = (true, false);
        self = self.setting("cluster-require-full-coverage", "no");
        let first = self.clone().start()?;
        if self.tls {
            // The nodes verify each other by one authority.
            let certificate = first.folder.join(CERTIFICATE_FILE).display().to_string();
            let key = first.folder.join(KEY_FILE).display().to_string();
            let authority = first.ca_file().map(|file| file.display().to_string());
            self = self
                .setting("tls-cert-file", certificate)
                .setting("tls-key-file", key)
                .setting("tls-ca-cert-file", authority.unwrap_or_default());
        }
        let mut all = vec![first];
        for _ in 1..nodes {
            all.push(self.clone().start()?);
        }
        let cluster = RedisCluster { nodes: all };
        let joined = cluster.join();
        joined.map_err(|error| io("create the cluster")(std::io::Error::other(error)))?;
        for node in &cluster.nodes {
            node.wait_for_cluster(cluster.nodes.len())?;
        }
        Ok(cluster)
    }
}

impl RedisCluster {
    /// Distributes the slots, and introduces each node to the first one.
    fn join(&self) -> Result<(), CommandError> {
        let count = self.nodes.len();
        for (number, node) in self.nodes.iter().enumerate() {
            let (first, next) = (SLOTS * number / count, SLOTS * (number + 1) / count);
            // Otherwise the nodes would have to resolve equal epochs.
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            let (first, last) = (first.to_string(), (next - 1).to_string());
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
        }
        let Some(first) = self.nodes.first() else {
            return Ok(());
        };
        for node in &self.nodes[1..] {
            let bus = node.command(&["CONFIG", "GET", "cluster-port"])?;
            let bus = bus.lines().last().unwrap_or_default().to_owned();
            let port = node.port().to_string();
            first.command(&["CLUSTER", "MEET", node.host(), &port, &bus])?;
        }
        Ok(())
    }
}
