//! Kind and name of the cache that a token is signed for.

use claviger_aws::ConnectRequest;

/// Longest name, in bytes. AWS accepts up to 40; this leaves room for a longer limit.
const LONGEST_NAME: usize = 63;

/// Kind of a cache. The signed request depends on it: a token for another kind is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheKind {
    /// Serverless cache of ElastiCache. Its ARN contains `serverlesscache`.
    Serverless,
    /// Node-based cluster of ElastiCache, identified by its replication group. Its ARN contains
    /// `replicationgroup`.
    NodeBased,
    /// Cluster of MemoryDB. Its ARN begins with `arn:aws:memorydb`.
    MemoryDb,
}

impl CacheKind {
    /// Returns the request whose presigned form is a token for this user.
    pub(crate) fn connect_request(
        self,
        name: CacheName,
        region: String,
        user: String,
    ) -> ConnectRequest {
        let (service, more) = match self {
            Self::Serverless => (
                "elasticache",
                Some(("ResourceType", "ServerlessCache".to_owned())),
            ),
            Self::NodeBased => ("elasticache", None),
            Self::MemoryDb => ("memorydb", None),
        };
        ConnectRequest {
            service,
            region,
            host: name.0.clone(),
            header: name.0,
            user: ("User", user),
            more,
        }
    }
}

/// Name of a cache, in lower case, as AWS stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheName(String);

impl CacheName {
    /// Parses the name of a serverless cache, replication group or MemoryDB cluster.
    ///
    /// # Errors
    /// The problem and a valid value. The name is not shown, because it may be a URL with a
    /// password.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let problem = |what: &str| Err(what.to_owned());
        if name.is_empty() {
            return problem(
                "is empty; set the name of the serverless cache, replication group or MemoryDB \
                cluster",
            );
        }
        if name.starts_with("arn:") {
            return problem("is an ARN; set its last part, the name alone");
        }
        if name.contains(['.', ':', '/', '@']) {
            return problem(
                "is an endpoint or a URL; set the name of the cache, which is signed instead: \
                `orders`, not `orders-a1b2c3.serverless.euw1.cache.amazonaws.com`",
            );
        }
        if let Some(odd) = name
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && *c != '-')
        {
            return problem(&format!("has a {odd:?}; use letters, digits and `-`"));
        }
        if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return problem("does not begin with a letter; set the name as AWS shows it");
        }
        if name.ends_with('-') || name.contains("--") {
            return problem("has a `-` at its end or two in a row; set the name as AWS shows it");
        }
        if name.len() > LONGEST_NAME {
            return problem("is too long; a name has up to 40 characters");
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// Returns the name in lower case.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_signed_in_lower_case() {
        for (name, signed) in [
            ("orders", "orders"),
            ("Orders-Cache-01", "orders-cache-01"),
            ("a", "a"),
            ("a1-b2-c3", "a1-b2-c3"),
        ] {
            assert_eq!(CacheName::parse(name).expect(name).as_str(), signed);
        }
    }

    #[test]
    fn an_invalid_name_is_an_error_that_names_the_cause() {
        let long = "a".repeat(64);
        for (name, why) in [
            ("", "is empty"),
            (
                "orders-a1b2c3.serverless.euw1.cache.amazonaws.com",
                "is an endpoint",
            ),
            ("orders.", "is an endpoint"),
            ("orders:6379", "is an endpoint"),
            ("rediss://orders", "is an endpoint"),
            ("me@orders", "is an endpoint"),
            (
                "arn:aws:elasticache:eu-west-1:123456789012:serverlesscache:orders",
                "is an ARN",
            ),
            ("orders cache", "has a ' '"),
            ("orders_cache", "has a '_'"),
            ("orders\n", "has a '\\n'"),
            ("größe", "has a 'ö'"),
            ("1orders", "does not begin with a letter"),
            ("-orders", "does not begin with a letter"),
            ("orders-", "at its end"),
            ("orders--cache", "two in a row"),
            (long.as_str(), "is too long"),
        ] {
            let problem = CacheName::parse(name).expect_err(name);
            assert!(problem.contains(why), "{name:?}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(name in "\\PC*|[A-Za-z0-9.:-]{0,80}") {
            if let Ok(parsed) = CacheName::parse(&name) {
                prop_assert!(parsed.as_str().eq_ignore_ascii_case(&name));
            }
        }
    }
}
