//! Which secret, and in which region it is: checked before anything is asked.

use std::fmt;

use claviger::{ProviderError, ProviderErrorKind};

/// The longest name, and the longest ARN, that Secrets Manager takes (its API reference, `SecretId`
/// and `Name`).
const LONGEST_NAME: usize = 512;
const LONGEST_ARN: usize = 2_048;
/// A hyphen and six random characters stand behind the name in an ARN.
const SUFFIX: usize = 7;

/// Advice for an ARN of ECS's task definitions, which append three fields, each of which may be
/// empty: `:JSON-KEY:VERSION-STAGE:VERSION-ID`.
const ECS_FIELDS: &str = "has a JSON key or a version behind the secret's name, as ECS's `valueFrom` has them; end the ARN with the name, \
    and give the key with `password_key`, `user_key` …; the version is always the one at AWSCURRENT";

/// A secret's name, its whole ARN, or its ARN without the six random characters at the end.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretId {
    text: String,
    region: Option<String>,
}

impl SecretId {
    /// Checks the form.
    ///
    /// # Errors
    /// `Misconfigured`, naming `secret_id` and what would be right.
    pub(crate) fn parse(text: String) -> Result<Self, ProviderError> {
        if text.is_empty() {
            return Err(wrong("is empty; give the secret's name or its ARN"));
        }
        if !text.starts_with("arn:") {
            // Each of the three fields may be empty.
            if text.ends_with(':') || text.matches(':').count() >= 3 {
                return Err(wrong(ECS_FIELDS));
            }
            check_name(&text, LONGEST_NAME)?;
            return Ok(Self { text, region: None });
        }
        if text.len() > LONGEST_ARN {
            return Err(wrong(&format!(
                "is longer than {LONGEST_ARN} characters; give the secret's ARN"
            )));
        }
        let parts: Vec<&str> = text.splitn(7, ':').collect();
        let [_, partition, service, region, account, resource, name] = parts[..] else {
            return Err(wrong(
                "is no whole ARN; give arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
            ));
        };
        if !partition.starts_with("aws") {
            return Err(wrong(
                "has a partition that AWS does not have; give aws, aws-cn, aws-us-gov …",
            ));
        }
        if service != "secretsmanager" || resource != "secret" {
            return Err(wrong(
                "is the ARN of something else; give arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
            ));
        }
        if !is_region(region) {
            return Err(wrong(
                "has no region in its ARN; give the whole ARN, such as …:secretsmanager:eu-west-1:…",
            ));
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong(
                "has no account of 12 digits in its ARN; give the whole ARN",
            ));
        }
        if name.contains(':') {
            return Err(wrong(ECS_FIELDS));
        }
        check_name(name, LONGEST_NAME + SUFFIX)?;
        let region = Some(region.to_owned());
        Ok(Self { text, region })
    }

    /// As it was given: what the store is asked for.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The region to ask in: the configuration's, else the ARN's.
    ///
    /// # Errors
    /// `Misconfigured` where the two disagree or neither says one.
    pub(crate) fn region(&self, configured: Option<&str>) -> Result<String, ProviderError> {
        match (
            configured.filter(|region| !region.is_empty()),
            self.region.as_deref(),
        ) {
            (Some(configured), _) if !is_region(configured) => Err(misconfigured(
                "region",
                &format!(
                    "{configured:?} of the AWS configuration is no region's name; give one such as eu-west-1"
                ),
            )),
            (Some(configured), Some(own)) if configured != own => Err(misconfigured(
                "region",
                &format!(
                    "is {configured} in the AWS configuration and {own} in the secret's ARN; give both the same, or a configuration for {own}"
                ),
            )),
            (Some(region), _) | (None, Some(region)) => Ok(region.to_owned()),
            (None, None) => Err(misconfigured(
                "region",
                "is missing: neither the AWS configuration nor the secret's id says one; set AWS_REGION, or give the secret's ARN",
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

/// Letters, digits and `/_+=.@-`; AWS itself also makes names with `!`, such as `rds!db-…`.
fn check_name(name: &str, longest: usize) -> Result<(), ProviderError> {
    if name.is_empty() {
        return Err(wrong(
            "has no name at its end; give the secret's name or its whole ARN",
        ));
    }
    if name.len() > longest {
        return Err(wrong(&format!(
            "is longer than {longest} characters; give the secret's name or its ARN"
        )));
    }
    match name
        .chars()
        .find(|&letter| !letter.is_ascii_alphanumeric() && !"/_+=.@-!".contains(letter))
    {
        Some(letter) => Err(wrong(&format!(
            "has the character {letter:?}; a secret's name has letters, digits and /_+=.@-! alone"
        ))),
        None => Ok(()),
    }
}

/// A name such as `eu-west-1`: it becomes part of a host's name.
fn is_region(region: &str) -> bool {
    !region.is_empty()
        && region.len() <= 63
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !region.starts_with('-')
        && !region.ends_with('-')
}

fn wrong(problem: &str) -> ProviderError {
    misconfigured("secret_id", problem)
}

/// A setting that cannot be right: its name, and what would be.
pub(crate) fn misconfigured(field: &str, problem: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("`{field}` {problem}"),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/orders-AbCdEf";

    #[test]
    fn names_and_arns_are_taken_as_they_are() {
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
    fn what_cannot_be_a_secret_is_said() {
        for (text, says) in [
            ("", "is empty"),
            ("orders db", "' '"),
            ("orders:db", "':'"),
            ("bestellungen-über", "'ü'"),
            ("orders\n", r"'\n'"),
            ("arn:", "no whole ARN"),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret",
                "no whole ARN",
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
                "`password_key`",
            ),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-AbCdEf::AWSPREVIOUS:",
                "AWSCURRENT",
            ),
            ("orders:password::", "`password_key`"),
            ("orders::AWSPREVIOUS:", "`password_key`"),
            ("orders:password:AWSCURRENT:", "`password_key`"),
            ("orders:::0a1b2c3d", "`password_key`"),
            ("orders:", "`password_key`"),
            (
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-AbCdEf:",
                "`password_key`",
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
                "something else",
            ),
            (
                "arn:gcp:secretsmanager:eu-west-1:123456789012:secret:a",
                "partition",
            ),
        ] {
            let error = SecretId::parse(text.to_owned()).unwrap_err();
            assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
            assert!(
                error.to_string().starts_with("`secret_id`") && error.to_string().contains(says),
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
    fn the_region_comes_from_the_configuration_or_the_arn_and_never_from_nowhere() {
        let (name, arn) = (
            SecretId::parse("orders".to_owned()).unwrap(),
            SecretId::parse(ARN.to_owned()).unwrap(),
        );
        assert_eq!(name.region(Some("us-east-2")).unwrap(), "us-east-2");
        assert_eq!(arn.region(Some("eu-west-1")).unwrap(), "eu-west-1");
        assert_eq!(arn.region(None).unwrap(), "eu-west-1");
        for (id, configured, says) in [
            (&name, None, "is missing"),
            (&name, Some(""), "is missing"),
            (&name, Some("eu west"), "no region's name"),
            (
                &arn,
                Some("us-east-1"),
                "us-east-1 in the AWS configuration and eu-west-1 in the secret's ARN",
            ),
        ] {
            let error = id.region(configured).unwrap_err();
            assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
            assert!(
                error.to_string().starts_with("`region`") && error.to_string().contains(says),
                "{error}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_given_is_taken_whole_or_rejected(text in "(arn:)?[ -~ü:]{0,80}") {
            match SecretId::parse(text.clone()) {
                Ok(id) => prop_assert_eq!(id.as_str(), text),
                Err(error) => prop_assert!(error.to_string().starts_with("`secret_id`")),
            }
        }
    }
}
