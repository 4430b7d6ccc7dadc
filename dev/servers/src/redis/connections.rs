//! Connections and logins, as the server counts them.

use std::sync::atomic::Ordering;

use super::client::Reply;
use super::{ADMIN, CommandError, Redis};

/// An open connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The server's number of the connection, which is never used again.
    pub id: u64,
    /// The user that it is authenticated as.
    pub user: String,
    /// The client's address and port.
    pub address: String,
    /// The name by `CLIENT SETNAME`; empty if there is none.
    pub name: String,
    /// The last command, as `ping` or `client|list`.
    pub last_command: String,
}

impl Redis {
    /// Returns the open connections, but not the administrator's.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn connections(&self) -> Result<Vec<Connection>, CommandError> {
        let list = self.command(&["CLIENT", "LIST"])?;
        let connections = list.lines().filter_map(parse_connection);
        Ok(connections
            .filter(|connection| connection.user != ADMIN)
            .collect())
    }

    /// Returns the open connections of this user.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn connections_of(&self, user: &str) -> Result<Vec<Connection>, CommandError> {
        let mut connections = self.connections()?;
        connections.retain(|connection| connection.user == user);
        Ok(connections)
    }

    /// Closes the connections of this user and returns how many there were.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn kill_connections(&self, user: &str) -> Result<u64, CommandError> {
        let killed = self.command(&["CLIENT", "KILL", "USER", user])?;
        Ok(killed.parse().unwrap_or_default())
    }

    /// Returns how many logins the server has rejected since it was started. An `AUTH` on an open
    /// connection counts as one.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn rejected_logins(&self) -> Result<u64, CommandError> {
        let info = self.command(&["INFO", "errorstats"])?;
        Ok(field(&info, "errorstat_WRONGPASS:count="))
    }

    /// Returns how many logins of this user the server has rejected since it was started, of 128
    /// different ones at most.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn rejected_logins_of(&self, user: &str) -> Result<u64, CommandError> {
        let Reply::List(entries) = self.reply(&["ACL", "LOG", "128"])? else {
            return Ok(0);
        };
        let mut count = 0;
        for entry in entries {
            let Reply::List(entry) = entry else { continue };
            let value = |name: &str| {
                let mut pairs = entry.chunks_exact(2);
                let pair = pairs.find(|pair| pair[0] == Reply::Text(name.to_owned()))?;
                Some(pair[1].clone().into_text())
            };
            if value("reason").as_deref() == Some("auth")
                && value("username").as_deref() == Some(user)
            {
                count += value("count")
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(0);
            }
        }
        Ok(count)
    }

    /// Returns how many commands `AUTH` and `HELLO` the server has received since it was started,
    /// except the administrator's own.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn login_commands(&self) -> Result<u64, CommandError> {
        let info = self.command(&["INFO", "commandstats"])?;
        let calls = |name: &str| field(&info, &format!("cmdstat_{name}:calls="));
        // Each method logs in anew, this one included.
        let own = self.own_logins.load(Ordering::Relaxed);
        Ok((calls("auth") + calls("hello")).saturating_sub(own))
    }
}

fn field(info: &str, name: &str) -> u64 {
    let value = info.lines().find_map(|line| line.strip_prefix(name));
    let digits = value.map(|value| value.split(|c: char| !c.is_ascii_digit()).next());
    digits
        .flatten()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn parse_connection(line: &str) -> Option<Connection> {
    let field = |name: &str| {
        line.split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    Some(Connection {
        id: field("id")?.parse().ok()?,
        user: field("user")?,
        address: field("addr")?,
        name: field("name").unwrap_or_default(),
        last_command: field("cmd").unwrap_or_default(),
    })
}
