//! Id and region of a secret, checked before anything is requested.

use std::fmt;

use claviger::error::{ProviderError, ProviderErrorKind};

/// Longest name in Secrets Manager, in characters (its API reference, `Name`).
const LONGEST_NAME: usize = 512;
/// Longest ARN, in characters (its API reference, `SecretId`).
const LONGEST_ARN: usize = 2_048;
/// Length of the hyphen and six random characters after the name in an ARN.
const SUFFIX: usize = 7;

/// Advice for an ARN of ECS's task definitions, which append three fields, each of which may be
/// empty: `:JSON-KEY:VERSION-STAGE:VERSION-ID`.
const ECS_FIELDS: &str = "has a JSON key or a version after the secret's name, as in ECS's \
    `valueFrom`; end the ARN with the name, and set the key by \"password_key\", \"user_key\" …; \
    the version is always the one at AWSCURRENT";

/// A secret's name, its whole ARN, or its ARN without the six random characters at the end.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretId {
    text: String,
    region: Option<String>,
}

impl SecretId {
    /// Parses an id.
    ///
    /// # Errors
    /// `Misconfigured`, naming `secret_id` and what would be right.
    pub(crate) fn parse(text: String) -> Result<Self, ProviderError> {
        if text.is_empty() {
            return Err(invalid("is empty; set the secret's name or its ARN"));
        }
        if !text.starts_with("arn:") {
            // Each of the three fields may be empty.
            if text.ends_with(':') || text.matches(':').count() >= 3 {
                return Err(invalid(ECS_FIELDS));
            }
            check_name(&text, LONGEST_NAME)?;
            return Ok(Self { text, region: None });
        }
        if text.len() > LONGEST_ARN {
            return Err(invalid(&format!(
                "is longer than {LONGEST_ARN} characters; set the secret's ARN"
            )));
        }
        let parts: Vec<&str> = text.splitn(7, ':').collect();
        let [_, partition, service, region, account, resource, name] = parts[..] else {
            return Err(invalid(
                "is not a whole ARN; set arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
            ));
        };
        if !partition.starts_with("aws") {
            return Err(invalid(
                "has an unknown partition; use aws, aws-cn, aws-us-gov …",
            ));
        }
        if service != "secretsmanager" || resource != "secret" {
            return Err(invalid(
                "is not the ARN of a secret; set arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
            ));
        }
        if !is_region(region) {
            return Err(invalid(
                "has no region in its ARN; set the whole ARN, such as …:secretsmanager:eu-west-1:…",
            ));
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid(
                "has no account of 12 digits in its ARN; set the whole ARN",
            ));
        }
        if name.contains(':') {
            return Err(invalid(ECS_FIELDS));
        }
        check_name(name, LONGEST_NAME + SUFFIX)?;
        let region = Some(region.to_owned());
        Ok(Self { text, region })
    }

    /// Returns the id as it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the region of the configuration, else that of the ARN.
    ///
    /// # Errors
    /// `Misconfigured` if the two differ or there is none.
    pub(crate) fn region(&self, configured: Option<&str>) -> Result<String, ProviderError> {
        match (
            configured.filter(|region| !region.is_empty()),
            self.region.as_deref(),
        ) {
            (Some(configured), _) if !is_region(configured) => Err(misconfigured(
                "region",
                &format!(
                    "{configured:?} in the AWS configuration is not a region; set one such as \
                    eu-west-1"
                ),
            )),
            (Some(configured), Some(own)) if configured != own => Err(misconfigured(
                "region",
                &format!(
                    "is {configured} in the AWS configuration and {own} in the secret's ARN; set \
                    both to the same, or use a configuration for {own}"
                ),
            )),
            (Some(region), _) | (None, Some(region)) => Ok(region.to_owned()),
            (None, None) => Err(misconfigured(
                "region",
                "is missing: neither the AWS configuration nor the secret's id has one; set \
                AWS_REGION, or use the secret's ARN",
            )),
        }
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Checks a name: letters, digits and `/_+=.@-`. AWS itself also makes names with `!`, such as
/// `rds!db-…`.
fn check_name(name: &str, longest: usize) -> Result<(), ProviderError> {
    if name.is_empty() {
        return Err(invalid(
            "has no name at its end; set the secret's name or its whole ARN",
        ));
    }
    if name.len() > longest {
        return Err(invalid(&format!(
            "is longer than {longest} characters; set the secret's name or its ARN"
        )));
    }
    match name
        .chars()
        .find(|&letter| !letter.is_ascii_alphanumeric() && !"/_+=.@-!".contains(letter))
    {
        Some(letter) => Err(invalid(&format!(
            "has the character {letter:?}; a secret's name has only letters, digits and /_+=.@-!"
        ))),
        None => Ok(()),
    }
}

/// Returns whether the text has the form of `eu-west-1`. It becomes part of a host name.
fn is_region(region: &str) -> bool {
    !region.is_empty()
        && region.len() <= 63
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !region.starts_with('-')
        && !region.ends_with('-')
}

fn invalid(problem: &str) -> ProviderError {
    misconfigured("secret_id", problem)
}

/// Reports an invalid setting and what would be right.
pub(crate) fn misconfigured(setting: &str, problem: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("\"{setting}\" {problem}"),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/orders-AbCdEf";

    #[test]
    fn names_and_arns_are_accepted_as_they_are() {
        for text in [
            "orders",
            "prod/orders_db+x=y.z@corp-1",
            "rds!db-0b1c9a3e-AbCdEf",
            ARN,
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/orders",
            "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:orders-AbCdEf",
            "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:rds!cluster-1-AbCdEf",
        ] {
            assert_eq!(SecretId::parse(text.to_owned()).unwrap().as_str(), text);
        }
    }

    #[test]
    fn an_invalid_id_is_an_error_that_names_the_cause() {
        for (text, expected) in [
            ("", "is empty"),
            ("orders db", "' '"),
            ("orders:db", "':'"),
            ("bestellungen-über", "'ü'"),
            ("orders\n", r"'\n'"),
            ("arn:", "not a whole ARN"),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret",
                "not a whole ARN",
            ),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
                "no name at its end",
            ),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a:b",
                "end the ARN",
            ),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-AbCdEf:password::",
                "\"password_key\"",
            ),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-AbCdEf::AWSPREVIOUS:",
                "AWSCURRENT",
            ),
            ("orders:password::", "\"password_key\""),
            ("orders::AWSPREVIOUS:", "\"password_key\""),
            ("orders:password:AWSCURRENT:", "\"password_key\""),
            ("orders:::0a1b2c3d", "\"password_key\""),
            ("orders:", "\"password_key\""),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-AbCdEf:",
                "\"password_key\"",
            ),
            ("arn:aws:secretsmanager::123456789012:secret:a", "no region"),
            (
                "arn:aws:secretsmanager:EU WEST:123456789012:secret:a",
                "no region",
            ),
            (
                "arn:aws:secretsmanager:eu-west-1:1234:secret:a",
                "12 digits",
            ),
            (
                "arn:aws:ssm:eu-west-1:123456789012:parameter:a",
                "not the ARN of a secret",
            ),
            (
                "arn:gcp:secretsmanager:eu-west-1:123456789012:secret:a",
                "partition",
            ),
        ] {
            let error = SecretId::parse(text.to_owned()).unwrap_err();
            assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
            assert!(
                error.to_string().starts_with("\"secret_id\"")
                    && error.to_string().contains(expected),
                "{text:?}: {error}"
            );
        }
        assert!(SecretId::parse("x".repeat(513)).is_err());
        assert!(SecretId::parse("x".repeat(512)).is_ok());
        let arn = |length: usize| {
            SecretId::parse(format!(
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:{}-AbCdEf",
                "x".repeat(length)
            ))
        };
        assert!(arn(512).is_ok() && arn(513).is_err());
    }

    #[test]
    fn the_region_is_that_of_the_configuration_or_the_arn() {
        let (name, arn) = (
            SecretId::parse("orders".to_owned()).unwrap(),
            SecretId::parse(ARN.to_owned()).unwrap(),
        );
        assert_eq!(name.region(Some("us-east-2")).unwrap(), "us-east-2");
        assert_eq!(arn.region(Some("eu-west-1")).unwrap(), "eu-west-1");
        assert_eq!(arn.region(None).unwrap(), "eu-west-1");
        for (id, configured, expected) in [
            (&name, None, "is missing"),
            (&name, Some(""), "is missing"),
            (&name, Some("eu west"), "not a region"),
            (
                &arn,
                Some("us-east-1"),
                "us-east-1 in the AWS configuration and eu-west-1 in the secret's ARN",
            ),
        ] {
            let error = id.region(configured).unwrap_err();
            assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
            assert!(
                error.to_string().starts_with("\"region\"") && error.to_string().contains(expected),
                "{error}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_text_is_accepted_as_is_or_an_error(text in "(arn:)?[ -~ü:]{0,80}") {
            match SecretId::parse(text.clone()) {
                Ok(id) => prop_assert_eq!(id.as_str(), text),
                Err(error) => prop_assert!(error.to_string().starts_with("\"secret_id\"")),
            }
        }
    }
}
