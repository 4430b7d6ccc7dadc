//! Checks of providers and of Vault's servers.

use std::net::IpAddr;

use url::Url;

use super::{Surroundings, needs_feature};
use crate::error::Problem;
use crate::nearest::{list, suggestion};
use crate::schema::{File, FileFormat, ProviderSettings, VaultSettings};

/// Checks the address of a server of Vault or OpenBao.
pub(super) fn check_vault(name: &str, vault: &VaultSettings, problems: &mut Vec<Problem>) {
    let url = Url::parse(&vault.address).ok();
    let url = url.filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
    let advice = match url {
        None => "is not an address; give one such as https://vault.internal:8200",
        Some(url) if !url.username().is_empty() || url.password().is_some() => {
            "has a user or password; give scheme, host and port alone"
        }
        Some(url)
            if !matches!(url.path(), "" | "/")
                || url.query().is_some()
                || url.fragment().is_some() =>
        {
            "has a path; give scheme, host and port alone"
        }
        Some(url) if url.scheme() == "http" && !vault.danger_plain_http && !is_local(&url) => {
            "sends tokens without TLS; give https://, or set `danger_plain_http = true`"
        }
        Some(_) => return,
    };
    problems.push(Problem::new(format!("vaults.{name}.address"), advice));
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Advice on a region that has not the form of one.
pub(super) const NO_REGION: &str = "is not a region of AWS; give one such as `eu-west-1`";

/// Returns whether a region has the form of `eu-west-1` or `us-gov-west-1`.
pub(super) fn is_region(region: &str) -> bool {
    let parts: Vec<_> = region.split('-').collect();
    let is = |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|one| is(&one));
    match parts.as_slice() {
        [names @ .., number] if names.len() >= 2 => {
            is(number, u8::is_ascii_digit)
                && names.iter().all(|name| is(name, u8::is_ascii_lowercase))
        }
        _ => false,
    }
}

/// Checks a provider of the file.
pub(super) fn check_provider(
    name: &str,
    provider: &ProviderSettings,
    file: &File,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) {
    let is_registered = surroundings.registered.contains(&name);
    let is_of_service = matches!(provider, ProviderSettings::Service(_));
    if is_registered && !is_of_service {
        let message = "is also registered by the service; remove one";
        problems.push(Problem::new(format!("providers.{name}"), message));
    }
    let mut problem = |key: &str, message: String| {
        problems.push(Problem::new(format!("providers.{name}.{key}"), message));
    };
    if is_of_service && !is_registered && !surroundings.for_tools {
        let advice = format!(
            "is `service`, and the service has not added it; call `with_provider({name:?}, …)`"
        );
        problem("kind", advice);
    }
    let (feature, is_enabled) = match provider {
        ProviderSettings::File(_) => ("file", cfg!(feature = "file")),
        ProviderSettings::Static(_) | ProviderSettings::Service(_) => ("", true),
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
        problem("kind", needs_feature(feature, surroundings));
    }
    if let ProviderSettings::File(settings) = provider {
        match (
            settings.format == FileFormat::Password,
            settings.user.is_some(),
        ) {
            (true, false) => problem(
                "user",
                "is missing; the file contains only the password, so give the user".into(),
            ),
            (false, true) => problem(
                "user",
                "is only for `format = \"password\"`; remove it".into(),
            ),
            _ => {}
        }
    }
    let region = match provider {
        ProviderSettings::RdsIam(settings) => settings.region.as_deref(),
        ProviderSettings::ElasticacheIam(settings) => settings.region.as_deref(),
        _ => None,
    };
    if !region.is_none_or(is_region) {
        problem("region", NO_REGION.into());
    }
    let vault = match provider {
        ProviderSettings::VaultDynamic(role) | ProviderSettings::VaultStatic(role) => &role.vault,
        ProviderSettings::VaultKv(secret) => &secret.vault,
        _ => return,
    };
    let vaults = &file.vaults;
    let names: Vec<_> = vaults.keys().map(String::as_str).collect();
    match vault {
        Some(vault) if !vaults.contains_key(vault) => {
            problem(
                "vault",
                format!("is not in [vaults]; {}", suggestion(vault, &names)),
            );
        }
        None if names.is_empty() => {
            problem(
                "vault",
                "is missing; add a server such as [vaults.main]".into(),
            );
        }
        None if names.len() > 1 => {
            let names = list(&names);
            problem("vault", format!("is missing; give one of {names}"));
        }
        _ => {}
    }
}
