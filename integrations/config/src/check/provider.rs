//! Checks of providers and of Vault's servers.

use std::net::IpAddr;

use url::Url;

use super::{Surroundings, advice_on_host, needs_feature};
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

/// The part of a region's name before its number.
const DIRECTIONS: [&str; 9] = [
    "central",
    "east",
    "north",
    "northeast",
    "northwest",
    "south",
    "southeast",
    "southwest",
    "west",
];

/// Returns the problem of a region that has not the form of `eu-west-1` or `us-gov-west-1`. There is
/// no list of regions, because AWS adds some every year.
pub(super) fn region_problem(region: &str) -> Option<String> {
    let parts: Vec<_> = region.split('-').collect();
    let is = |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|one| is(&one));
    match parts.as_slice() {
        [areas @ .., direction, number]
            if !areas.is_empty()
                && is(number, u8::is_ascii_digit)
                && areas.iter().all(|area| is(area, u8::is_ascii_lowercase)) =>
        {
            (!DIRECTIONS.contains(direction)).then(|| {
                let nearest = suggestion(direction, &DIRECTIONS);
                format!("is not a region of AWS, by the word before its number; {nearest}")
            })
        }
        _ => Some("is not a region of AWS; give one such as `eu-west-1`".to_owned()),
    }
}

/// Returns the region in the ARN of a secret.
fn region_of_arn(secret: &str) -> Option<&str> {
    let rest = secret.strip_prefix("arn:")?;
    rest.split(':').nth(2)
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
    let (key, region) = match provider {
        ProviderSettings::RdsIam(settings) => ("region", settings.region.as_deref()),
        ProviderSettings::ElasticacheIam(settings) => ("region", settings.region.as_deref()),
        ProviderSettings::SecretsManager(settings) => ("secret", region_of_arn(&settings.secret)),
        _ => ("region", None),
    };
    if let Some(message) = region.and_then(region_problem) {
        problem(key, message);
    }
    if let ProviderSettings::RdsIam(settings) = provider {
        if let Some(advice) = advice_on_host(&settings.host) {
            problem("host", advice.into());
        }
        if settings.port == 0 {
            problem("port", "is 0; give one from 1 to 65535".into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_a_direction_before_its_number() {
        for region in [
            "eu-west-1",
            "ap-southeast-7",
            "cn-northwest-1",
            "us-gov-east-1",
            "us-isob-east-1",
            "eu-isoe-west-1",
            "eusc-de-east-1",
            "mx-central-1",
        ] {
            assert_eq!(region_problem(region), None, "{region}");
        }
        for (region, word) in [
            ("eu-wset-1", "`west`"),
            ("eu-westt-1", "`west`"),
            ("us-esat-1", "`east`"),
            ("us-gov-wst-1", "`west`"),
            ("eu-s3cret-1", "give one of"),
            ("west-1", "`eu-west-1`"),
            ("eu-west", "`eu-west-1`"),
            ("eu_west_1", "`eu-west-1`"),
            ("EU-WEST-1", "`eu-west-1`"),
            ("", "`eu-west-1`"),
        ] {
            let problem = region_problem(region).unwrap_or_default();
            assert!(problem.contains(word), "{region}: {problem}");
            assert!(!problem.contains("s3cret"), "{problem}");
        }
    }
}
