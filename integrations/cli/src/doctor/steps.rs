//! The steps of one connection, in order.

use claviger::error::ProviderError;
use claviger::lease::Timestamp;
use claviger::{Credentials, Lease};
#[cfg(feature = "aws")]
use claviger_config::Backend;
use claviger_config::{Connection, Engine};

use super::credential::{failed_finding, fetched_findings};
use super::found::Found;
use super::line::{Line, reach, secure};
use super::login::{self, LoginFacts};
use super::pooler::{Greeting, Method, Pooler, greet, pooler, pooler_finding};
use super::token::{Claims, Use, token_finding, unprotected_finding};
use super::{Doctor, Rejected, catalog, clock, limits};
use crate::finding::{Finding, Step, one_line};
use crate::place::Place;

/// Causes that apply to every login of the same user, whatever the database. Others, such as a line
/// of pg_hba.conf or PgBouncer's settings, can be those of one database.
const OF_USER: [&str; 4] = [
    "not_in_rds_iam",
    "password_rejected",
    "role_may_not_log_in",
    "token_rejected",
];
/// Causes that apply to every login of the same user to the same database.
const OF_DATABASE: [&str; 3] = [
    "client_certificate_rejected",
    "rejected_by_pgbouncer",
    "role_rejected",
];

impl Doctor {
    /// Adds the findings of each step until the first problem.
    pub(super) async fn examine_one(
        &mut self,
        connection: &Connection,
        findings: &mut Vec<Finding>,
    ) {
        let found = &mut Found(findings);
        // `None` is the end at a problem.
        let _ = self.steps(connection, found).await;
    }

    async fn steps(&mut self, connection: &Connection, found: &mut Found<'_>) -> Option<()> {
        if let Err(error) = connection.provider() {
            let problems = error.problems().iter();
            let texts: Vec<_> = problems
                .map(|problem| format!("{}: {}", problem.key, problem.message))
                .collect();
            let cause = if texts.iter().any(|text| text.contains("region")) {
                "wrong_region"
            } else {
                "invalid_settings"
            };
            let (detail, next) = super::credential::split(&texts.join("; "));
            found.add(Finding::problem(Step::Settings, cause, detail).with_next(next))?;
        }
        self.compare_clocks(connection, found).await?;
        self.identify(connection, found).await?;
        let lease = self.obtain(connection, found).await?;
        let place = place_of(connection, lease.secret(), found)?;
        let stream = reach(&place, found).await?;
        let line = secure(connection, &place, stream, found).await?;
        check_token(connection, &place, lease.secret(), found)?;
        self.log_in(connection, &place, &lease, line, found).await
    }

    async fn compare_clocks(
        &mut self,
        connection: &Connection,
        found: &mut Found<'_>,
    ) -> Option<()> {
        let Some(address) = clock::address(connection) else {
            return Some(());
        };
        if let Some(finding) = self.clocks.get(&address) {
            return found.add(finding.clone());
        }
        let skew = clock::skew(connection, &address).await;
        let finding = clock::skew_finding(&address, &skew);
        self.clocks.insert(address, finding.clone());
        found.add(finding)
    }

    #[cfg(feature = "aws")]
    async fn identify(&mut self, connection: &Connection, found: &mut Found<'_>) -> Option<()> {
        let is_aws = matches!(
            connection.backend(),
            Backend::RdsIam { .. }
                | Backend::ElasticacheIam { .. }
                | Backend::SecretsManager { .. }
        );
        if !is_aws {
            return Some(());
        }
        if let Some(finding) = &self.identity {
            return found.add(finding.clone());
        }
        let identity = super::identity::identity(connection).await;
        let finding = super::identity::identity_finding(&identity);
        self.identity = Some(finding.clone());
        found.add(finding)
    }

    #[cfg(not(feature = "aws"))]
    async fn identify(&mut self, _: &Connection, _: &mut Found<'_>) -> Option<()> {
        Some(())
    }

    async fn obtain(
        &mut self,
        connection: &Connection,
        found: &mut Found<'_>,
    ) -> Option<Lease<Credentials>> {
        let provider = connection.provider().ok()?;
        let fetched: Result<_, ProviderError> =
            self.fetch(&connection.provider_name(), provider).await;
        match fetched {
            Ok(lease) => {
                for finding in fetched_findings(connection.backend(), &lease, Timestamp::now()) {
                    found.add(finding)?;
                }
                Some(lease)
            }
            Err(error) => {
                found.add(failed_finding(&error));
                None
            }
        }
    }

    async fn log_in(
        &mut self,
        connection: &Connection,
        place: &Place,
        lease: &Lease<Credentials>,
        mut line: Line,
        found: &mut Found<'_>,
    ) -> Option<()> {
        let credentials = lease.secret();
        let user = credentials.user().to_owned();
        let database = place.database.clone().unwrap_or_else(|| user.clone());
        let earlier = self
            .rejected
            .iter()
            .find(|rejected| rejected.covers(place, credentials));
        if let Some(rejected) = earlier {
            let mut finding = rejected.finding.clone();
            finding.detail += " (as before; not tried again)";
            return found.add(finding);
        }
        let is_postgres = connection.engine() == Engine::Postgres;
        let mut pooler_in_front = None;
        let mut greeting = Greeting::Unknown;
        if is_postgres {
            greeting = greet(&mut *line.stream, &user, &database).await;
            pooler_in_front = pooler(&place.host, &greeting);
            if let Some(pooler) = pooler_in_front {
                found.add(pooler_finding(pooler))?;
            }
        }
        let facts = LoginFacts {
            user: &user,
            database: &database,
            is_token: credentials.is_token(),
            has_tls: line.has_tls,
            pooler: pooler_in_front,
        };
        self.logins += 1;
        let logged_in = login::log_in(connection, place, credentials, &mut *line.stream).await;
        let mut logged_in = match logged_in {
            Ok(logged_in) => {
                let detail = format!("as {}", one_line(&user));
                found.add(Finding::ok(Step::Login, detail))?;
                logged_in
            }
            Err(error) => {
                self.failed_logins += 1;
                let engine = connection.engine();
                let finding = login::failed_finding(engine, &facts, &error, credentials);
                let finding = with_method(finding, &greeting, facts.is_token);
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
                found.add(finding);
                if is_postgres {
                    self.read_role(&facts, true, found).await;
                }
                return None;
            }
        };
        if is_postgres && facts.pooler != Some(Pooler::RdsProxy) {
            self.read_role(&facts, false, found).await?;
        }
        let server = limits::read(&mut logged_in).await;
        drop(logged_in);
        let lifetime = limits::lifetime_finding(&limits::LifetimeFacts {
            max_lifetime: connection.max_lifetime(),
            is_token: facts.is_token,
            lease: lease.expiry().remaining(Timestamp::now()),
            old_connections: lease.old_connections(),
        });
        if let Some(lifetime) = lifetime {
            found.add(lifetime)?;
        }
        if let Some(server) = server {
            let (max, overlap) = (connection.max_connections(), connection.overlap());
            found.add(limits::capacity_finding(max, overlap, server, facts.pooler))?;
        }
        Some(())
    }

    /// Reads the role from the catalog, if there is an administrator.
    async fn read_role(
        &mut self,
        facts: &LoginFacts<'_>,
        failed: bool,
        found: &mut Found<'_>,
    ) -> Option<()> {
        let Some(options) = &self.admin_url else {
            return Some(());
        };
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
        let read = catalog::read(admin, facts.user, facts.database).await;
        let finding = match read {
            Ok(role) => {
                catalog::role_finding(&role, facts.user, facts.database, facts.is_token, failed)
            }
            Err(reason) => catalog::unread_finding(&reason),
        };
        if finding.is_problem() {
            found.narrow_down();
        }
        found.add(finding)
    }
}

/// Adds what the server requested before the login.
fn with_method(mut finding: Finding, greeting: &Greeting, is_token: bool) -> Finding {
    if is_token && *greeting == Greeting::Requests(Method::Hashed) {
        finding.detail += " (the server requests a password of this role, not a token)";
    }
    finding
}

/// Returns the place where the pool logs in.
fn place_of(
    connection: &Connection,
    credentials: &Credentials,
    found: &mut Found<'_>,
) -> Option<Place> {
    let own = Place::of(connection);
    let place = own.clone().with_endpoint_of(credentials);
    if place != own {
        let detail = format!(
            "pools connect to {}:{} of the secret, not to the settings' host",
            one_line(&place.host),
            place.port
        );
        found.add(Finding::note(Step::Secret, "endpoint_of_secret", detail))?;
    }
    Some(place)
}

fn check_token(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
    found: &mut Found<'_>,
) -> Option<()> {
    if !credentials.is_token() {
        return Some(());
    }
    let claims = Claims::parse(credentials.expose_password());
    let place = Use {
        host: &place.host,
        port: place.port,
        user: credentials.user(),
        region: region_of(&place.host),
        now: Timestamp::now().wall(),
    };
    found.add(token_finding(claims.as_ref(), &place))?;
    match unprotected_finding(connection.tls_mode()) {
        Some(finding) => found.add(finding),
        None => Some(()),
    }
}

#[cfg(feature = "aws")]
fn region_of(host: &str) -> Option<&str> {
    claviger_rds_iam::region_of_endpoint(host)
}

#[cfg(not(feature = "aws"))]
fn region_of(_: &str) -> Option<&str> {
    None
}
