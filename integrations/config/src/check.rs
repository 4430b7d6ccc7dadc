//! Checks of keys that depend on each other.

mod builders;
mod limits;
mod provider;
mod tls;
mod tokens;

use std::net::IpAddr;

use crate::error::Problem;
use crate::libpq::Libpq;
use crate::nearest::suggestion;
use crate::resolved_pool::{Engine, ResolvedPool};
use crate::schema::{File, PoolKind};
use crate::url_text::SEVERAL_HOSTS;
use crate::values::Secret;
use builders::Builders;
use limits::{check_defaults, check_limits, check_supervisor};
use provider::{check_provider, check_vault, region_problem};
use tls::check_tls;
use tokens::check_tokens;

/// What the file does not contain.
pub(crate) struct Surroundings<'s> {
    /// Providers that the service has registered.
    pub(crate) registered: &'s [&'s str],
    /// Defaults of the environment.
    pub(crate) libpq: &'s Libpq,
    /// Kinds of pools whose feature is not enabled are no problem, and neither are providers that
    /// the service would register.
    pub(crate) for_tools: bool,
    /// The pools are examined one after another. A server of Vault with an invalid address is a
    /// problem of the pools that need it alone.
    pub(crate) pools_apart: bool,
    /// There is no file. A pool of the environment whose feature is not enabled is for another
    /// library, if there is another pool.
    pub(crate) is_environment: bool,
}

/// Returns the pools of the file.
///
/// # Errors
/// All problems of providers and pools.
pub(crate) fn check(
    file: &File,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<ResolvedPool>, Vec<Problem>> {
    let mut problems = Vec::new();
    check_supervisor(&file.supervisor, &mut problems);
    if let Some(problem) = file.aws.region.as_deref().and_then(region_problem) {
        problems.push(Problem::new("aws.region", problem));
    }
    if !surroundings.pools_apart {
        for (name, vault) in &file.vaults {
            check_vault(name, vault, &mut problems);
        }
    }
    for (table, name) in names(file) {
        let longest = longest_name(table, name, file);
        if name.trim().is_empty() || name.len() > longest || name.chars().any(char::is_control) {
            let message = format!(
                "is empty, over {longest} bytes, or has control characters; give one such as \
                 [{table}.orders]"
            );
            problems.push(Problem::new(format!("{table}.{name:?}"), message));
        }
    }
    // Not for an examination, which reports a builder's error in the step that it belongs to.
    let builders = (!surroundings.pools_apart).then(|| Builders::new(file));
    for (name, provider) in &file.providers {
        let before = problems.len();
        check_provider(name, provider, file, surroundings, &mut problems);
        if let Some(builders) = builders.as_ref().filter(|_| problems.len() == before) {
            builders.provider(name, provider, &mut problems);
        }
    }
    check_defaults(&file.defaults, &mut problems);
    let mut pools = Vec::new();
    for (name, settings) in &file.pools {
        let pool = match ResolvedPool::new(name, settings, file, surroundings.libpq) {
            Ok(pool) => pool,
            Err(problem) => {
                // A variable of libpq concerns each pool.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
                continue;
            }
        };
        let (feature, is_enabled) = pool.kind.feature();
        if !is_enabled && !surroundings.for_tools {
            if surroundings.is_environment && file.pools.len() > 1 {
                continue;
            }
            problems.push(Problem::new(
                pool.key("kind"),
                needs_feature(feature, surroundings),
            ));
        }
        let before = problems.len();
        check_pool(&pool, file, surroundings, &mut problems);
        let is_built = is_enabled && problems.len() == before;
        if let Some(builders) = builders.as_ref().filter(|_| is_built) {
            builders.pool(&pool, &mut problems);
        }
        pools.push(pool);
    }
    if problems.is_empty() {
        Ok(pools)
    } else {
        Err(problems)
    }
}

fn names(file: &File) -> impl Iterator<Item = (&'static str, &str)> {
    let pools = file.pools.keys().map(|name| ("pools", name.as_str()));
    pools.chain(
        file.providers
            .keys()
            .map(|name| ("providers", name.as_str())),
    )
}

/// Returns how many bytes the supervisor accepts. A pool's own provider is named after it.
fn longest_name(table: &str, name: &str, file: &File) -> usize {
    let has_own_provider = table == "pools"
        && file
            .pools
            .get(name)
            .is_some_and(|pool| pool.provider.is_none());
    match has_own_provider {
        true => 200 - "-credentials".len(),
        false => 200,
    }
}

fn check_pool(
    pool: &ResolvedPool,
    file: &File,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) {
    let registered = surroundings.registered;
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
            let mut message = format!("is not in [providers]; {}", suggestion(provider, &known));
            if surroundings.for_tools {
                message += &format!(
                    ". If the service adds it, mark it: [providers.{provider}] with \
                     kind = \"service\""
                );
            }
            problem("provider", message);
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
    let host = pool.host();
    if let Some(advice) = host.as_deref().and_then(advice_on_host) {
        problem("host", advice.into());
    }
    match host {
        None if is_cluster && !settings.nodes.is_empty() => {}
        None => problem("host", "is missing; give a name or an address".into()),
        Some(host) if host.starts_with('/') && engine != Engine::Postgres => {
            problem("host", "is a path, which only PostgreSQL accepts".into());
        }
        Some(_) => {}
    }
    if pool.port() == 0 {
        let key = if settings.port.is_some() {
            "port"
        } else {
            "url"
        };
        let what = if key == "port" { "is" } else { "has the port" };
        problem(key, format!("{what} 0; give one from 1 to 65535"));
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
    let is_number = |number: String| number.parse::<u32>().is_ok();
    if engine == Engine::Redis && !is_cluster && !pool.database().is_none_or(is_number) {
        let key = if settings.database.is_some() {
            "database"
        } else {
            "url"
        };
        let what = if key == "url" {
            "has a path that is"
        } else {
            "is"
        };
        problem(
            key,
            format!("{what} not the number of a database; give one such as 0"),
        );
    }
    check_limits(pool, problems);
    check_tls(pool, problems);
    check_tokens(pool, surroundings, problems);
    let mut problem =
        |key: &str, message: String| problems.push(Problem::new(pool.key(key), message));
    if settings.aws_iam_auth {
        if !cfg!(feature = "rds-iam") {
            problem("aws_iam_auth", needs_feature("rds-iam", surroundings));
        }
        if engine == Engine::Redis {
            let advice = "is for RDS; give a provider of kind `elasticache-iam`";
            problem("aws_iam_auth", advice.into());
        }
        if pool.host().is_none() {
            problem("host", "is missing; a token is signed for this host".into());
        }
    } else if settings.region.is_some() {
        problem("region", "is only for `aws_iam_auth`; remove it".into());
    }
    if let Some(message) = settings.region.as_deref().and_then(region_problem) {
        problem("region", message);
    }
    if matches!(pool.password(), Some(Secret::File(_))) && !cfg!(feature = "file") {
        problem("password", needs_feature("file", surroundings));
    }
    for key in keys_without_meaning(pool) {
        let kind = pool.kind.as_str();
        problem(
            key,
            format!("has no effect on a pool of kind `{kind}`; remove it"),
        );
    }
}

/// Returns the given keys that this kind of pool does not have.
fn keys_without_meaning(pool: &ResolvedPool) -> Vec<&'static str> {
    let settings = &pool.settings;
    let kind = pool.kind;
    let is_redis = kind.engine() == Engine::Redis;
    let is_shared = is_redis && kind != PoolKind::RedisExclusive;
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
    ];
    keys.iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(key, _)| *key)
        .collect()
}

/// Returns what to give in place of a text that is no name or address.
fn advice_on_host(host: &str) -> Option<&'static str> {
    if host.starts_with('/') || host.parse::<IpAddr>().is_ok() {
        None
    } else if host.contains("://") {
        Some("is a URL; give it by `url`")
    } else if host.contains(',') {
        Some(SEVERAL_HOSTS)
    } else if host.contains(':') {
        Some("has a port; give it by `port`")
    } else if host.contains(['/', '@', '?']) || host.contains(char::is_whitespace) {
        Some("is not a name or an address; give one such as db.internal")
    } else {
        None
    }
}

fn needs_feature(feature: &str, surroundings: &Surroundings<'_>) -> String {
    if surroundings.for_tools {
        format!(
            "needs the feature `{feature}` of claviger-config; this program was built without it"
        )
    } else {
        format!("needs the feature `{feature}` of claviger-config; enable it in Cargo.toml")
    }
}
