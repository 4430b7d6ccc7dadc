//! The steps of one connection, in order.

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::Timestamp;
use claviger::{Credentials, Lease};
use claviger_config::{Backend, Connection};

use super::credential::{failed_finding, fetched_findings};
use super::found::Found;
use super::line::{attempts, reach, secure};
use super::network::Stream;
use super::token::{Claims, Use, token_finding, unprotected_finding};
#[cfg(feature = "vault")]
use super::vault;
use super::{Doctor, clock};
use crate::finding::{Finding, Step, one_line};
use crate::place::Place;

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
        if matches!(connection.backend(), Backend::Service) {
            return self.examine_way(connection, found).await;
        }
        if let Err(error) = connection.provider() {
            let problems = error.problems().iter();
            let texts: Vec<_> = problems
                .map(|problem| format!("{}: {}", problem.key, problem.message))
                .collect();
            let mut keys = error.problems().iter().map(|problem| &problem.key);
            let is_of_region = keys.any(|key| key.ends_with(".region"));
            found.add(settings_finding(&texts.join("; "), is_of_region))?;
        }
        self.compare_clocks(connection, found).await?;
        self.identify(connection, found).await?;
        let lease = self.obtain(connection, found).await?;
        let place = place_of(connection, lease.secret(), found)?;
        let stream = self.reach(connection, &place, found).await?;
        let line = secure(connection, &place, stream, lease.secret(), found).await?;
        check_token(connection, &place, lease.secret(), found)?;
        self.log_in(connection, &place, &lease, line, found).await
    }

    /// Examines the way to the server alone: only the service has the credentials.
    async fn examine_way(&mut self, connection: &Connection, found: &mut Found<'_>) -> Option<()> {
        let detail = "the service adds the provider of these credentials; they are not checked";
        found.add(Finding::note(Step::Secret, "added_by_service", detail))?;
        let place = Place::of(connection);
        let stream = self.reach(connection, &place, found).await?;
        // Nothing is to be hidden in the texts of the server.
        let none = Credentials::new("", "");
        let line = secure(connection, &place, stream, &none, found).await;
        line.map(drop)
    }

    /// Looks up the host and connects to its port. A server that another pool did not reach in
    /// the same way is not tried again.
    async fn reach(
        &mut self,
        connection: &Connection,
        place: &Place,
        found: &mut Found<'_>,
    ) -> Option<Box<dyn Stream>> {
        let attempts = attempts(connection);
        let mut unreached = self.unreached.iter();
        let earlier = unreached.find(|(other, by, _)| {
            other.host == place.host && other.port == place.port && *by == attempts
        });
        if let Some((_, _, findings)) = earlier {
            for finding in findings {
                let mut finding = finding.clone();
                if finding.is_problem() {
                    finding.detail += " (as before; not tried again)";
                }
                found.add(finding);
            }
            return None;
        }
        let known = found.0.len();
        let stream = reach(connection, place, found).await;
        if stream.is_none() {
            let findings = found.0[known..].to_vec();
            self.unreached.push((place.clone(), attempts, findings));
        }
        stream
    }

    async fn compare_clocks(
        &mut self,
        connection: &Connection,
        found: &mut Found<'_>,
    ) -> Option<()> {
        let addresses = clock::addresses(connection);
        let Some(first) = addresses.first() else {
            return Some(());
        };
        if let Some(finding) = self.clocks.get(first) {
            return found.add(finding.clone());
        }
        let mut finding = None;
        for address in &addresses {
            let skew = clock::skew(connection, address).await;
            if skew.is_ok() || finding.is_none() {
                finding = Some(clock::skew_finding(address, &skew));
            }
            if skew.is_ok() {
                break;
            }
        }
        let finding = finding?;
        self.clocks.insert(first.clone(), finding.clone());
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
        #[cfg(feature = "vault")]
        identify_at_vault(connection, &fetched, found).await?;
        match fetched {
            Ok(lease) => {
                let user = connection.user();
                let (backend, now) = (connection.backend(), Timestamp::now());
                for finding in fetched_findings(backend, user.as_deref(), &lease, now) {
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
}

/// Returns the finding for settings of a provider that are invalid.
fn settings_finding(text: &str, is_of_region: bool) -> Finding {
    let text = text.trim_end_matches(" (misconfigured)");
    let error = ProviderError::new(ProviderErrorKind::Misconfigured, text);
    let (detail, next) = (one_line(error.problem()), one_line(error.action()));
    if !is_of_region {
        return Finding::problem(Step::Settings, "invalid_settings", detail).with_next(next);
    }
    if text.contains("is missing") {
        // The provider's own advice is for its builder.
        return Finding::problem(Step::Settings, "region_missing", detail)
            .with_next("set `region` of the pool or `[aws]`, or AWS_REGION");
    }
    Finding::problem(Step::Settings, "wrong_region", detail).with_next(next)
}

/// Adds the identity at Vault, and the permission that it lacks.
#[cfg(feature = "vault")]
async fn identify_at_vault(
    connection: &Connection,
    fetched: &Result<Lease<Credentials>, ProviderError>,
    found: &mut Found<'_>,
) -> Option<()> {
    let Some(session) = connection.vault_session() else {
        return Some(());
    };
    let reported = vault::report(session, connection, fetched.is_err()).await;
    if let Some(identity) = vault::identity_finding(&reported, fetched.is_err()) {
        found.add(identity)?;
    }
    match fetched {
        Err(error) if error.kind() == ProviderErrorKind::Denied => {
            match vault::denied_finding(&reported, connection) {
                Some(denied) => found.add(denied),
                None => Some(()),
            }
        }
        _ => Some(()),
    }
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
