//! Examines connections step by step, and stops each at the first cause of a failure.

mod capacity;
mod catalog;
mod certificate;
mod clock;
pub(crate) mod credential;
mod found;
mod greeting;
mod handshake;
#[cfg(feature = "aws")]
mod identity;
mod lease;
mod limits;
mod line;
mod login;
mod login_step;
mod network;
mod pooler;
mod protocol;
mod steps;
mod tls;
mod token;
mod unreached;
#[cfg(feature = "vault")]
mod vault;
mod verification;

use std::collections::HashMap;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::{Credentials, Lease};
use claviger_config::{AnyProvider, Connection};
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use self::network::Attempts;
use crate::finding::Finding;
use crate::finding::one_line;
use crate::place::Place;
use crate::report::{ConnectionReport, Report};

pub(crate) use catalog::{AdminUrl, parse_url};
pub(crate) use credential::Examined;

/// Result of a fetch.
type Fetched = Result<Lease<Credentials>, ProviderError>;

/// A diagnosis of several connections. Results that they share are obtained once.
pub(crate) struct Doctor {
    examined: Examined,
    admin_url: Option<AdminUrl>,
    /// The administrator's connection, or why there is none. `None` before the first use.
    admin: Option<Result<PgConnection, String>>,
    /// What each provider returned.
    fetched: HashMap<String, Fetched>,
    providers: Vec<(String, AnyProvider)>,
    /// The fetch that runs, and the name of its provider.
    pending: Option<(String, JoinHandle<Fetched>)>,
    /// The clock of each backend, by address.
    clocks: HashMap<String, Finding>,
    #[cfg(feature = "aws")]
    identity: Option<Finding>,
    /// The pools whose limits were compared.
    uses: Vec<capacity::PoolUse>,
    /// Servers that were not reached, and the findings about them: each costs seconds.
    unreached: Vec<(Place, Attempts, Vec<Finding>)>,
    /// Rejected logins: an equal one may lock the account.
    rejected: Vec<Rejected>,
    logins: u32,
    failed_logins: u32,
}

/// A login that was rejected.
struct Rejected {
    place: Place,
    /// Whether the cause can be that of the database alone.
    is_of_database: bool,
    credentials: Credentials,
    finding: Finding,
}

impl Rejected {
    /// Returns whether a login with these credentials would be rejected, too. Tokens of one user
    /// differ, and are rejected alike.
    fn covers(&self, place: &Place, credentials: &Credentials) -> bool {
        let (own, other) = (&self.credentials, credentials);
        let is_same_secret = own.expose_password() == other.expose_password()
            || (own.is_token() && other.is_token());
        is_same_secret
            && own.user() == other.user()
            && self.place.host == place.host
            && self.place.port == place.port
            && (!self.is_of_database || self.place.database == place.database)
    }
}

impl Doctor {
    pub(crate) fn new(admin_url: Option<AdminUrl>, examined: Examined) -> Self {
        Self {
            examined,
            admin_url,
            admin: None,
            fetched: HashMap::new(),
            providers: Vec::new(),
            pending: None,
            clocks: HashMap::new(),
            #[cfg(feature = "aws")]
            identity: None,
            uses: Vec::new(),
            unreached: Vec::new(),
            rejected: Vec::new(),
            logins: 0,
            failed_logins: 0,
        }
    }

    /// Examines the connections one after another. Leases that it fetched are kept until
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    /// Dropping the future is safe: a fetch that runs is completed by `close`.
    pub(crate) async fn examine(&mut self, connections: &[Connection]) -> Report {
        let mut reports = Vec::new();
        for connection in connections {
            let mut findings = Vec::new();
            self.examine_one(connection, &mut findings).await;
            reports.push(ConnectionReport {
                pool: connection.name().to_owned(),
                kind: connection.kind(),
                target: self.target(connection),
                findings,
            });
        }
        Report {
            connections: reports,
            logins: self.logins,
            failed_logins: self.failed_logins,
        }
    }

    /// Returns user, host, port and database of the login.
    fn target(&self, connection: &Connection) -> String {
        let fetched = self.fetched.get(&connection.provider_name());
        let credentials = fetched
            .and_then(|fetched| fetched.as_ref().ok())
            .map(Lease::secret);
        let mut place = Place::of(connection);
        if let Some(credentials) = credentials {
            place = place.with_endpoint_of(credentials);
        }
        let user = credentials.map(credential::shown_user);
        let user = user.or_else(|| connection.user());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let shown = |name: String| match credentials {
            Some(credentials) => credential::shown(credentials, &name),
            None => name,
        };
        let database = place.database.map(|name| format!("/{}", shown(name)));
        one_line(&format!(
            "{user}{}:{}{}",
            place.host,
            place.port,
            database.unwrap_or_default()
        ))
    }

    /// Fetches the credentials of a provider, once.
    async fn fetch(&mut self, name: &str, provider: &AnyProvider) -> Fetched {
        if let Some(fetched) = self.fetched.get(name) {
            return fetched.clone();
        }
        self.providers.push((name.to_owned(), provider.clone()));
        // A task, so that a lease is known even if the diagnosis ends meanwhile.
        let provider = provider.clone();
        let examined = self.examined;
        let task = tokio::spawn(async move { credential::fetch(&provider, examined).await });
        let (_, task) = self.pending.insert((name.to_owned(), task));
        let fetched = fetched_by(task).await;
        self.pending = None;
        self.fetched.insert(name.to_owned(), fetched.clone());
        fetched
    }

    /// Releases the leases and closes the providers. Waits for the fetch that runs, 30 s at most.
    ///
    /// # Cancel safety
    /// When the future is dropped, leases are not released; they expire.
    pub(crate) async fn close(mut self) {
        if let Some(Ok(admin)) = self.admin {
            catalog::close(admin).await;
        }
        if let Some((name, mut task)) = self.pending {
            self.fetched.insert(name, fetched_by(&mut task).await);
        }
        for (name, provider) in self.providers {
            let lease = self
                .fetched
                .get(&name)
                .and_then(|lease| lease.as_ref().ok());
            credential::release(&provider, lease.cloned()).await;
        }
    }
}

async fn fetched_by(task: &mut JoinHandle<Fetched>) -> Fetched {
    let aborted = || ProviderError::new(ProviderErrorKind::Other, "the fetch was aborted");
    task.await.unwrap_or_else(|_| Err(aborted()))
}
