//! Settings that providers of tokens have in common, checked before anything is signed.

use claviger::error::{ProviderError, ProviderErrorKind};

/// Longest name of a user, in bytes. No server has longer ones (PostgreSQL: 63 bytes, MySQL: 32
/// characters, MariaDB: 128).
const LONGEST_USER: usize = 1_024;

/// Returns a `Misconfigured` error that names the setting.
pub fn misconfigured(setting: &str, problem: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("\"{setting}\" {problem}"),
    )
}

/// Checks a user's name. Any name that a server may have is valid.
///
/// # Errors
/// `Misconfigured`, with the problem and a valid value.
pub fn check_user(name: &str) -> Result<(), ProviderError> {
    let problem = if name.is_empty() {
        "is empty; set the user of the server".to_owned()
    } else if name.contains('\0') {
        format!(
            "has a NUL in {name:?}, which servers do not accept; set the user as it was created"
        )
    } else if name.len() > LONGEST_USER {
        format!(
            "has {} bytes, which servers do not accept; set at most {LONGEST_USER}",
            name.len()
        )
    } else {
        return Ok(());
    };
    Err(misconfigured("user", &problem))
}

/// The region that a token is signed for, from every place that may have it. They must agree.
///
/// ```
/// let region = claviger_aws::RegionSettings::new("cache", "CacheIam::builder(…).with_region(…)")
///     .with_place("the caller", None)
///     .with_place("the SdkConfig", Some("eu-west-1"));
/// assert_eq!(region.resolve()?, "eu-west-1");
/// # Ok::<(), claviger::error::ProviderError>(())
/// ```
#[derive(Debug)]
#[must_use = "call `resolve`"]
pub struct RegionSettings<'r> {
    server: &'r str,
    setter: &'r str,
    places: Vec<(&'r str, Option<&'r str>)>,
}

impl<'r> RegionSettings<'r> {
    /// Creates settings without a region. Errors name this kind of server, and the call that sets
    /// its region.
    pub fn new(server: &'r str, setter: &'r str) -> Self {
        Self {
            server,
            setter,
            places: Vec::new(),
        }
    }

    /// Adds the region that a place has, if it has one.
    pub fn with_place(mut self, place: &'r str, region: Option<&'r str>) -> Self {
        self.places.push((place, region));
        self
    }

    /// Returns the region if all places that have one agree.
    ///
    /// # Errors
    /// `Misconfigured`: the places that differ, or that none has a valid region, and a valid value.
    pub fn resolve(self) -> Result<String, ProviderError> {
        let mut given = self
            .places
            .iter()
            .filter_map(|(place, region)| region.map(|region| (*place, region)));
        let Some((first, region)) = given.next() else {
            let places: Vec<_> = self.places.iter().map(|(place, _)| *place).collect();
            let problem = format!(
                "is missing: neither {} has one; set \"region\", or in code `{}`",
                places.join(" nor "),
                self.setter
            );
            return Err(misconfigured("region", &problem));
        };
        let problem = if !is_well_formed(region) {
            format!("of {first} is {region:?}; set a name such as eu-west-1")
        } else if let Some((second, other)) = given.find(|(_, other)| *other != region) {
            format!(
                "is {region:?} by {first} and {other:?} by {second}; set the region of the {} \
                everywhere (in code, of the SdkConfig by `aws.into_builder().region(…)`)",
                self.server
            )
        } else {
            return Ok(region.to_owned());
        };
        Err(misconfigured("region", &problem))
    }
}

/// Returns whether the region consists of lower-case letters and digits between hyphens.
fn is_well_formed(region: &str) -> bool {
    region.split('-').all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    /// Returns the region of three places, or the error's text.
    fn resolve(given: [Option<&str>; 3]) -> Result<String, String> {
        let [caller, config, endpoint] = given;
        RegionSettings::new("database", "RdsIam::builder(…).with_region(…)")
            .with_place("the caller", caller)
            .with_place("the SdkConfig", config)
            .with_place("the endpoint's name", endpoint)
            .resolve()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn all_given_regions_must_agree() {
        let (west, east) = (Some("eu-west-1"), Some("us-east-1"));
        for given in [
            [west, None, None],
            [None, west, None],
            [None, None, west],
            [west, west, west],
            [None, west, west],
        ] {
            assert_eq!(resolve(given), Ok("eu-west-1".to_owned()));
        }
        for (given, names) in [
            ([west, east, None], ["the caller", "the SdkConfig"]),
            ([west, None, east], ["the caller", "the endpoint's name"]),
            ([None, east, west], ["the SdkConfig", "the endpoint's name"]),
            ([west, west, east], ["the caller", "the endpoint's name"]),
        ] {
            let problem = resolve(given).expect_err("they differ");
            assert!(
                problem.contains("eu-west-1") && problem.contains("us-east-1"),
                "{problem}"
            );
            assert!(names.iter().all(|name| problem.contains(name)), "{problem}");
            assert!(problem.contains("region of the database"), "{problem}");
        }
    }

    #[test]
    fn a_missing_or_invalid_region_is_an_error_that_names_what_is_right() {
        let problem = resolve([None; 3]).expect_err("there is none");
        for part in [
            "is missing: neither the caller nor the SdkConfig nor",
            "with_region",
        ] {
            assert!(problem.contains(part), "{problem}");
        }
        for odd in ["", "EU-WEST-1", "eu west 1", "eu-", "-", "eu/west"] {
            let problem = resolve([Some(odd), None, None]).expect_err(odd);
            assert!(problem.contains("such as eu-west-1"), "{odd:?}: {problem}");
        }
    }

    #[test]
    fn an_invalid_user_is_an_error_that_names_the_cause() {
        for name in ["orders_app", "first.last+x@corp", " a ", "%", "größe"] {
            check_user(name).expect(name);
        }
        let long = "a".repeat(1_025);
        for (name, why) in [
            ("", "\"user\" is empty"),
            ("a\0", "\"user\" has a NUL in \"a\\0\""),
            (long.as_str(), "\"user\" has 1025 bytes"),
        ] {
            let problem = check_user(name).expect_err("it is invalid").to_string();
            assert!(problem.contains(why), "{problem}");
        }
    }
}
