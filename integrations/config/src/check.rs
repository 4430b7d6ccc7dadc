//! Checks of keys that depend on each other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::conform::suggestion;
use crate::error::Problem;
use crate::resolved_pool::{Engine, ResolvedPool};
use crate::schema::{File, FileFormat, PoolKind, ProviderSettings, SslMode, VaultSettings};
use crate::values::Secret;

/// The library's limits. Its own errors name settings of the kind of pool, and not keys of the
/// file.
const MAX_CONNECTIONS: u32 = 10_000;
const MAX_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// Returns the pools of the file.
///
/// # Errors
/// All problems of providers and pools. `registered` names the providers that the service
/// registers. With `for_tools`, a kind of pool whose feature is not enabled is no problem.
pub(crate) fn check(
    file: &File,
    registered: &[&str],
    for_tools: bool,
) -> Result<Vec<ResolvedPool>, Vec<Problem>> {
    let mut problems = Vec::new();
    for (name, provider) in &file.providers {
        check_provider(name, provider, &file.vaults, &mut problems);
        if registered.contains(&name.as_str()) {
            let key = format!("providers.{name}");
            problems.push(Problem::new(
                key,
                "is also registered by the service; remove one",
            ));
        }
    }
    let mut pools = Vec::new();
    for (name, settings) in &file.pools {
        match ResolvedPool::new(name, settings, &file.defaults) {
            Ok(pool) => {
                let (feature, is_enabled) = pool.kind.feature();
                if !is_enabled && !for_tools {
                    problems.push(Problem::new(pool.key("kind"), needs_feature(feature)));
                }
                check_pool(&pool, file, registered, &mut problems);
                pools.push(pool);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(pools)
    } else {
        Err(problems)
    }
}

fn check_provider(
    name: &str,
    provider: &ProviderSettings,
    vaults: &BTreeMap<String, VaultSettings>,
    problems: &mut Vec<Problem>,
) {
    let mut problem = |key: &str, message: String| {
        problems.push(Problem::new(format!("providers.{name}.{key}"), message));
    };
    let (feature, is_enabled) = match provider {
        ProviderSettings::File(_) => ("file", cfg!(feature = "file")),
        ProviderSettings::Static(_) => ("", true),
        ProviderSettings::RdsIam(_) => ("rds-iam", cfg!(feature = "rds-iam")),
        ProviderSettings::ElasticacheIam(_) => {
            ("elasticache-iam", cfg!(feature = "elasticache-iam"))
        }
        ProviderSettings::SecretsManager(_) => {
            ("secrets-manager", cfg!(feature = "secrets-manager"))
        }
        ProviderSettings::VaultDynamic(_)
        | ProviderSettings::VaultStatic(_)
        | ProviderSettings::VaultKv(_) => ("vault", cfg!(feature = "vault")),
    };
    if !is_enabled {
        problem("kind", needs_feature(feature));
    }
    if let ProviderSettings::File(settings) = provider {
        match (
            settings.format == FileFormat::Password,
            settings.user.is_some(),
        ) {
            (true, false) => problem(
                "user",
                "is missing; the file contains only the password".into(),
            ),
            (false, true) => problem("user", "is only for `format = \"password\"`".into()),
            _ => {}
        }
    }
    let vault = match provider {
        ProviderSettings::VaultDynamic(role) | ProviderSettings::VaultStatic(role) => &role.vault,
        ProviderSettings::VaultKv(secret) => &secret.vault,
        _ => return,
    };
    let names: Vec<_> = vaults.keys().map(String::as_str).collect();
    match vault {
        Some(vault) if !vaults.contains_key(vault) => {
            problem(
                "vault",
                format!("is not in [vaults]; {}", suggestion(vault, &names)),
            );
        }
        None if names.len() != 1 => {
            problem(
                "vault",
                format!("is missing, and [vaults] has {}", names.len()),
            );
        }
        _ => {}
    }
}

fn check_pool(pool: &ResolvedPool, file: &File, registered: &[&str], problems: &mut Vec<Problem>) {
    let settings = &pool.settings;
    let mut problem =
        |key: &str, message: String| problems.push(Problem::new(pool.key(key), message));
    let sources = [
        ("provider", settings.provider.is_some()),
        ("aws_iam_auth", settings.aws_iam_auth),
        ("password", pool.password().is_some()),
    ];
    let given_sources: Vec<_> = sources
        .iter()
        .filter(|(_, is)| *is)
        .map(|(key, _)| *key)
        .collect();
    match given_sources.as_slice() {
        [] => problem(
            "provider",
            "is missing; give the credentials by `provider`, `aws_iam_auth` or `password`".into(),
        ),
        [_] => {}
        [first, second, ..] => {
            problem(second, format!("is given beside `{first}`; give only one"));
        }
    }
    let own = pool.provider_name();
    let is_taken = file.providers.contains_key(&own) || registered.contains(&own.as_str());
    if settings.provider.is_none() && is_taken {
        let message =
            format!("needs the name `{own}` for its own provider; rename `providers.{own}`");
        problem("provider", message);
    }
    if let Some(provider) = &settings.provider {
        let known = file
            .providers
            .keys()
            .map(String::as_str)
            .chain(registered.iter().copied());
        let known: Vec<_> = known.collect();
        if !known.contains(&provider.as_str()) {
            problem(
                "provider",
                format!("is not in [providers]; {}", suggestion(provider, &known)),
            );
        }
    }
    let engine = pool.kind.engine();
    // Redis has a default user.
    let needs_user =
        settings.aws_iam_auth || (pool.password().is_some() && engine != Engine::Redis);
    if needs_user && pool.user().is_none() {
        problem("user", "is missing; give the database user".into());
    }
    if settings.provider.is_some() && pool.user().is_some() {
        let key = if settings.user.is_some() {
            "user"
        } else {
            "url"
        };
        problem(
            key,
            "has a user, and the credentials of `provider` have theirs; remove it".into(),
        );
    }
    let is_cluster = pool.kind == PoolKind::RedisCluster;
    match pool.host() {
        None if is_cluster && !settings.nodes.is_empty() => {}
        None => problem("host", "is missing; give a name or an address".into()),
        Some(host) if host.starts_with('/') && engine != Engine::Postgres => {
            problem("host", "is a path, which only PostgreSQL accepts".into());
        }
        Some(_) => {}
    }
    if pool.nodes().iter().any(Option::is_none) {
        let advice = "has an item that is not `host` or `host:port`; give those alone";
        problem("nodes", advice.into());
    }
    if is_cluster && pool.database().is_some_and(|number| number != "0") {
        problem(
            "database",
            "is not 0, and a cluster has no other; remove it".into(),
        );
    }
    check_limits(pool, &mut problem);
    if settings.aws_iam_auth {
        if !cfg!(feature = "rds-iam") {
            problem("aws_iam_auth", needs_feature("rds-iam"));
        }
        if engine == Engine::Redis {
            let advice = "is for RDS; give a provider of kind `elasticache-iam`";
            problem("aws_iam_auth", advice.into());
        }
        if pool.host().is_none() {
            problem("host", "is missing; a token is signed for this host".into());
        }
    } else if settings.region.is_some() {
        problem("region", "is only for `aws_iam_auth`".into());
    }
    if matches!(pool.password(), Some(Secret::File(_))) && !cfg!(feature = "file") {
        problem("password", needs_feature("file"));
    }
    match (&settings.client_certificate_file, &settings.client_key_file) {
        (Some(_), None) => problem(
            "client_key_file",
            "is missing; a certificate needs its key".into(),
        ),
        (None, Some(_)) => {
            problem(
                "client_certificate_file",
                "is missing; a key needs its certificate".into(),
            );
        }
        _ => {}
    }
    if let Some(mode) = pool.ssl_mode()
        && let Some(advice) = unsupported_ssl_mode(pool.kind, mode)
    {
        problem("ssl_mode", advice.into());
    }
    for key in keys_without_meaning(pool) {
        let kind = pool.kind.as_str();
        problem(
            key,
            format!("has no effect on a pool of kind `{kind}`; remove it"),
        );
    }
}

/// Checks sizes and durations, and what TLS needs.
fn check_limits(pool: &ResolvedPool, problem: &mut impl FnMut(&str, String)) {
    let settings = &pool.settings;
    let most = pool.max_connections();
    if !(1..=MAX_CONNECTIONS).contains(&most) {
        let allowed = format!("is out of range; give at least 1, and at most {MAX_CONNECTIONS}");
        problem("max_connections", allowed);
    } else {
        if pool.min_connections() > most {
            let bound = format!("is over the {most} of `max_connections`");
            problem("min_connections", bound);
        }
        if settings
            .overlap
            .is_some_and(|overlap| !(1..=most).contains(&overlap))
        {
            let bound = format!("is not from 1 to the {most} of `max_connections`");
            problem("overlap", bound);
        }
    }
    if pool.acquire_timeout() > MAX_ACQUIRE_TIMEOUT {
        problem("acquire_timeout", "is over 1day; give less".into());
    }
    for (key, duration) in [
        ("connection_max_lifetime", pool.max_lifetime()),
        ("idle_timeout", pool.idle_timeout()),
        ("acquire_timeout", pool.acquire_timeout()),
    ] {
        if duration.is_zero() {
            problem(key, "is 0s; give at least 1s".into());
        }
    }
    match pool.ssl_mode() {
        Some(SslMode::Disable | SslMode::Prefer | SslMode::Require)
            if settings.ca_file.is_some() =>
        {
            problem(
                "ca_file",
                "has no effect with this `ssl_mode`; give `verify-full`".into(),
            );
        }
        Some(SslMode::Disable) if settings.client_certificate_file.is_some() => problem(
            "client_certificate_file",
            "has no effect without TLS; give another `ssl_mode`".into(),
        ),
        _ => {}
    }
}

/// Returns the given keys that this kind of pool does not have.
fn keys_without_meaning(pool: &ResolvedPool) -> Vec<&'static str> {
    let settings = &pool.settings;
    let kind = pool.kind;
    let is_redis = kind.engine() == Engine::Redis;
    let is_shared = is_redis && kind != PoolKind::RedisExclusive;
    let is_sqlx = matches!(kind, PoolKind::Postgres | PoolKind::Mysql);
    let keys = [
        (
            "max_connections",
            is_shared && settings.max_connections.is_some(),
        ),
        (
            "min_connections",
            is_shared && settings.min_connections.is_some(),
        ),
        (
            "connection_max_lifetime",
            is_redis && settings.connection_max_lifetime.is_some(),
        ),
        ("idle_timeout", is_redis && settings.idle_timeout.is_some()),
        ("overlap", is_redis && settings.overlap.is_some()),
        (
            "nodes",
            kind != PoolKind::RedisCluster && !settings.nodes.is_empty(),
        ),
        (
            "application_name",
            kind.engine() != Engine::Postgres && settings.application_name.is_some(),
        ),
        (
            "client_certificate_file",
            !is_redis && !is_sqlx && settings.client_certificate_file.is_some(),
        ),
    ];
    keys.iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(key, _)| *key)
        .collect()
}

fn unsupported_ssl_mode(kind: PoolKind, mode: SslMode) -> Option<&'static str> {
    let is_sqlx = matches!(kind, PoolKind::Postgres | PoolKind::Mysql);
    match (kind.engine(), mode) {
        _ if is_sqlx => None,
        (Engine::Redis, SslMode::Prefer | SslMode::Require | SslMode::VerifyCa) => {
            Some("is not supported by this kind; give `disable` or `verify-full`")
        }
        (Engine::Postgres, SslMode::Require | SslMode::VerifyCa) => {
            Some("is not supported by this kind; give `disable`, `prefer` or `verify-full`")
        }
        _ => None,
    }
}

fn needs_feature(feature: &str) -> String {
    format!("needs the feature `{feature}` of claviger-config")
}
