//! The login of a connection, and what it shows of role, clock and limits.

use std::time::Duration;

use claviger::lease::Timestamp;
use claviger::{Credentials, Lease};
use claviger_config::{Connection, Engine};

use super::capacity::{PoolUse, capacity_finding};
use super::credential::{Examined, shown, shown_user};
use super::found::Found;
use super::greeting::{Greeting, Method, greet};
use super::line::{Line, responds_with_tls};
use super::login::{self, LoggedIn, LoginError, LoginFacts};
use super::network::is_same_host;
use super::pooler::{Pooler, pooler, pooler_finding};
use super::token::Claims;
use super::{Doctor, Rejected, catalog, clock, lease, limits, tls};
use crate::finding::{Finding, Step, one_line};
use crate::place::Place;

/// Causes that apply to every login of the same user, whatever the database. Others, such as a line
/// of pg_hba.conf or PgBouncer's settings, can be those of one database.
const OF_USER: [&str; 7] = [
    "account_rejected",
    "no_credentials_at_proxy",
    "not_in_rds_iam",
    "password_rejected",
    "role_accepts_only_tokens",
    "role_may_not_log_in",
    "token_rejected",
];
/// Causes that apply to every login of the same user to the same database.
const OF_DATABASE: [&str; 3] = [
    "client_certificate_rejected",
    "rejected_by_pgbouncer",
    "role_rejected",
];

/// Causes that the catalog explains. Of others, such as an entry of pg_hba.conf, it shows nothing.
const OF_CATALOG: [&str; 9] = [
    "connect_not_granted",
    "database_closed",
    "not_in_rds_iam",
    "password_rejected",
    "role_accepts_only_tokens",
    "role_may_not_log_in",
    "role_rejected",
    "token_rejected",
    "unknown_database",
];

impl Doctor {
    pub(super) async fn log_in(
        &mut self,
        connection: &Connection,
        place: &Place,
        lease: &Lease<Credentials>,
        mut line: Line,
        found: &mut Found<'_>,
    ) -> Option<()> {
        let credentials = lease.secret();
        if let Some(finding) = self.rejected_before(place, credentials) {
            return found.add(finding);
        }
        let user = credentials.user();
        let database = place.database.as_deref().unwrap_or(user);
        let is_postgres = connection.engine() == Engine::Postgres;
        let greeting = if is_postgres {
            greet(&mut *line.stream, user, database).await
        } else {
            Greeting::Unknown
        };
        let pooler_in_front = pooler(&place.host, &greeting);
        if let Some(pooler) = pooler_in_front {
            found.add(pooler_finding(pooler))?;
        }
        let facts = LoginFacts {
            user: &shown_user(credentials),
            database: &shown(credentials, database),
            is_token: credentials.is_token(),
            has_tls: line.has_tls,
            has_client_certificate: connection.client_certificate().is_some(),
            pooler: pooler_in_front,
            method: greeting.method(),
        };
        self.logins += 1;
        let logged_in = match greeting {
            // The server has judged this login already.
            Greeting::Error(error) | Greeting::PgBouncer(Some(error)) => {
                Err(LoginError::Server(error))
            }
            Greeting::TlsAlert(reason) => Err(LoginError::TlsAlert(reason)),
            Greeting::Closed => Err(LoginError::ClosedAtOnce),
            Greeting::Silent => Err(LoginError::Silent),
            Greeting::OtherProtocol(other) => Err(LoginError::OtherProtocol(other)),
            Greeting::LoggedIn => {
                // The login of the probe, and that of the driver.
                self.logins += 1;
                found.add(without_password(connection))?;
                login::log_in(connection, place, credentials, &mut *line.stream).await
            }
            Greeting::PgBouncer(None) | Greeting::Requests(_) | Greeting::Unknown => {
                login::log_in(connection, place, credentials, &mut *line.stream).await
            }
        };
        match logged_in {
            Ok(logged_in) => {
                let detail = format!("as {}", one_line(facts.user));
                found.add(Finding::ok(Step::Login, detail))?;
                self.examine_server(connection, place, lease, &facts, logged_in, found)
                    .await
            }
            Err(error) => {
                self.failed_logins += 1;
                let finding = judge(connection, place, credentials, &facts, &error).await;
                self.remember(place, credentials, &finding);
                let cause = finding.cause.unwrap_or_default();
                found.add(finding);
                if is_postgres && OF_CATALOG.contains(&cause) {
                    self.read_role(place, credentials, &facts, Some(cause), found)
                        .await;
                }
                None
            }
        }
    }

    /// Returns the finding of an equal login that was rejected before.
    fn rejected_before(&self, place: &Place, credentials: &Credentials) -> Option<Finding> {
        let mut rejected = self.rejected.iter();
        let earlier = rejected.find(|rejected| rejected.covers(place, credentials))?;
        let mut finding = earlier.finding.clone();
        finding.detail += " (as before; not tried again)";
        Some(finding)
    }

    fn remember(&mut self, place: &Place, credentials: &Credentials, finding: &Finding) {
        let cause = finding.cause.unwrap_or_default();
        let is_of_database = OF_DATABASE.contains(&cause);
        if is_of_database || OF_USER.contains(&cause) {
            self.rejected.push(Rejected {
                place: place.clone(),
                is_of_database,
                credentials: credentials.clone(),
                finding: finding.clone(),
            });
        }
    }

    /// Examines role, clock, lifetime and limits over an authenticated connection.
    async fn examine_server(
        &mut self,
        connection: &Connection,
        place: &Place,
        lease: &Lease<Credentials>,
        facts: &LoginFacts<'_>,
        mut logged_in: LoggedIn,
        found: &mut Found<'_>,
    ) -> Option<()> {
        let credentials = lease.secret();
        let is_postgres = connection.engine() == Engine::Postgres;
        if is_postgres {
            self.read_role(place, credentials, facts, None, found)
                .await?;
        }
        if let LoggedIn::Redis(observed) = &logged_in {
            for finding in login::observed_findings(connection.kind(), observed) {
                found.add(finding)?;
            }
        }
        let before = Timestamp::now().wall();
        let server = match limits::read(&mut logged_in).await {
            Ok(server) => server,
            Err(error) => {
                if let Some(problem) = login::unusable_finding(connection.engine(), &error) {
                    found.add(problem)?;
                }
                None
            }
        };
        if server.is_some_and(|server| server.is_read_only) {
            found.add(limits::replica_finding())?;
        }
        let time = match &logged_in {
            LoggedIn::Redis(observed) => observed.time,
            _ => server.and_then(|server| server.time),
        };
        drop(logged_in);
        if let Some(time) = time {
            let skew = clock::Skew::between(before, time, Timestamp::now().wall());
            self.add_clock(place, skew, facts.is_token, found)?;
        }
        let remaining = lease.expiry().remaining(Timestamp::now());
        let short = remaining.filter(|_| !facts.is_token);
        let lifetime = lease::short_finding(short).or_else(|| {
            limits::lifetime_finding(&limits::LifetimeFacts {
                max_lifetime: connection.max_lifetime(),
                token: iam_lifetime(credentials),
                lease: remaining,
                old_connections: lease.old_connections(),
            })
        });
        if let Some(lifetime) = lifetime {
            found.add(lifetime)?;
        }
        if let Some(server) = server {
            self.uses.push(PoolUse::new(connection, place, credentials));
            found.add(capacity_finding(&self.uses, server, facts.pooler)?)?;
            if self.examined == Examined::Next {
                found.add(limits::drain_finding(server))?;
            }
        }
        Some(())
    }

    /// Adds the difference to the database's clock, if it is notable or no other was compared.
    fn add_clock(
        &self,
        place: &Place,
        skew: clock::Skew,
        is_token: bool,
        found: &mut Found<'_>,
    ) -> Option<()> {
        let finding = clock::database_finding(&place.host, skew, is_token);
        let is_compared = found.has_ok(Step::Clock);
        if finding.cause.is_none() && is_compared {
            return Some(());
        }
        found.add(finding)
    }

    /// Reads the role from the catalog, if there is an administrator. `failure` is the cause of a
    /// failed login.
    async fn read_role(
        &mut self,
        place: &Place,
        credentials: &Credentials,
        facts: &LoginFacts<'_>,
        failure: Option<&str>,
        found: &mut Found<'_>,
    ) -> Option<()> {
        // RDS Proxy logs in with secrets of its own, whatever the role accepts.
        let options = self.admin_url.as_ref();
        let Some(options) = options.filter(|_| facts.pooler != Some(Pooler::RdsProxy)) else {
            return Some(());
        };
        // A pooler has an address of its own.
        let (host, port) = options.server();
        let is_same = port == place.port && is_same_host(host, &place.host).await;
        if facts.pooler.is_none() && !place.host.starts_with('/') && !is_same {
            return found.add(catalog::other_server_finding(options));
        }
        if self.admin.is_none() {
            self.logins += 1;
            let admin = catalog::log_in(options).await;
            self.failed_logins += u32::from(admin.is_err());
            self.admin = Some(admin);
        }
        let admin = match self.admin.as_mut()? {
            Ok(admin) => admin,
            Err(reason) => {
                let finding = catalog::unread_finding(reason);
                return found.add(finding);
            }
        };
        let user = credentials.user();
        let database = place.database.as_deref().unwrap_or(user);
        let before = Timestamp::now().wall();
        let role = match catalog::read(admin, user, database).await {
            Ok(role) => role,
            Err(reason) => return found.add(catalog::unread_finding(&reason)),
        };
        if failure.is_some() && facts.is_token && facts.pooler.is_none() {
            let skew = clock::Skew::between(before, role.time, Timestamp::now().wall());
            let finding = clock::database_finding(&place.host, skew, true);
            if finding.is_problem() {
                found.narrow_down();
                found.add(finding)?;
            }
        }
        let mut finding =
            catalog::role_finding(&role, facts.user, facts.database, facts.is_token, failure);
        if finding.is_problem() {
            let may_differ = facts.pooler.is_some() || place.host.starts_with('/');
            finding = match failure {
                // The login has worked, so the catalog is that of another server.
                None if may_differ => catalog::contradicting_finding(options, &finding),
                None => catalog::harmless_finding(&finding),
                // The pooler has returned the error, and decides on role and database.
                Some(_) if facts.pooler.is_some() => {
                    catalog::behind_pooler_finding(options, &finding)
                }
                Some(_) => finding,
            };
        }
        // LDAP, RADIUS and PAM verify another password than the stored one, and request it in clear.
        let is_stored = facts.method == Some(Method::Hashed) && facts.pooler.is_none();
        if finding.cause == Some("role_is_right") && is_stored && !facts.is_token {
            let stored = catalog::read_password(admin, user).await;
            finding = stored.map_or(finding, |stored| {
                catalog::password_finding(stored, facts.user)
            });
        }
        if finding.is_problem() {
            found.narrow_down();
        }
        found.add(finding)
    }
}

/// Returns the lifetime of an IAM token. `None` for other credentials.
fn iam_lifetime(credentials: &Credentials) -> Option<Duration> {
    let token = credentials
        .is_token()
        .then(|| credentials.expose_password());
    let claims = Claims::parse(token?)?;
    Some(claims.lifetime)
}

/// Returns the finding for a failed login.
async fn judge(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
    facts: &LoginFacts<'_>,
    error: &LoginError,
) -> Finding {
    let expects_tls = match error {
        _ if facts.has_tls => false,
        LoginError::OtherProtocol(other) => other.is_tls(),
        LoginError::Silent | LoginError::ClosedAtOnce => responds_with_tls(connection, place).await,
        _ => false,
    };
    if expects_tls {
        return tls::expected_finding(connection.engine());
    }
    let mut finding = login::failed_finding(connection.engine(), facts, error, credentials);
    if facts.is_token && facts.method == Some(Method::Hashed) {
        finding.detail += " (the server requests a password of this role, not a token)";
    }
    finding
}

/// Returns the finding for a server that requests no password.
fn without_password(connection: &Connection) -> Finding {
    if connection.client_certificate().is_some() {
        return Finding::ok(
            Step::Login,
            "the server requests no password beside the certificate",
        );
    }
    Finding::note(
        Step::Login,
        "password_not_requested",
        "the server requests no password: a wrong one does not show",
    )
    .with_next("the entry of pg_hba.conf for this user is `trust` or `peer`: make it scram-sha-256")
}
