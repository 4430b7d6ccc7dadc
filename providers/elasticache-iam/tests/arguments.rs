//! An invalid argument is an error when the provider is built, and the error names it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aws_config::{Region, SdkConfig};
use claviger::error::ProviderErrorKind;
use claviger_aws_fixtures::Chain;
use claviger_elasticache_iam::{CacheKind, ElastiCacheIam, ElastiCacheIamBuilder};

/// Returns the error for invalid arguments.
fn build_error(builder: ElastiCacheIamBuilder) -> String {
    let error = builder.build().expect_err("the arguments are invalid");
    assert_eq!(error.kind(), ProviderErrorKind::Misconfigured, "{error}");
    assert!(!error.is_transient());
    error.to_string()
}

fn builder(aws: &SdkConfig, name: &str, user: &str) -> ElastiCacheIamBuilder {
    ElastiCacheIam::builder(aws, CacheKind::Serverless, name, user)
}

#[test]
fn each_argument_is_named() {
    let aws = Chain::key().config(Some("eu-west-1"));
    for (builder, expected) in [
        (builder(&aws, "", "app"), "\"name\" is empty"),
        (
            builder(&aws, "orders.euw1.cache.amazonaws.com", "app"),
            "\"name\" is an endpoint or a URL; set the name of the cache",
        ),
        (builder(&aws, "a b", "app"), "\"name\" has a ' '"),
        (builder(&aws, "orders", ""), "\"user\" is empty"),
        (
            builder(&aws, "orders", "a\0b"),
            "\"user\" has a NUL in \"a\\0b\"",
        ),
        (
            builder(&aws, "orders", "app").with_region("EU"),
            "\"region\" of the caller is \"EU\"; set a name such as eu-west-1",
        ),
        (
            builder(&aws, "orders", "app").with_region("us-east-1"),
            "\"region\" is \"us-east-1\" by the caller and \"eu-west-1\" by the SdkConfig; set \
             the region of the cache",
        ),
        (
            builder(&aws, "orders", "app").with_lifetime(Duration::from_secs(901)),
            "\"lifetime\" must be between 3 s and 15 min, not 901s",
        ),
        (
            builder(&aws, "orders", "app").with_lifetime(Duration::from_millis(2_999)),
            "\"lifetime\" must be between 3 s and 15 min, not 2.999s",
        ),
    ] {
        let message = build_error(builder);
        assert!(
            message.contains(expected),
            "{message} should contain {expected}"
        );
    }
    let bare = SdkConfig::builder()
        .region(Region::new("eu-west-1"))
        .build();
    let message = build_error(builder(&bare, "orders", "app"));
    assert!(
        message.contains("\"SdkConfig\" has no credentials provider"),
        "{message}"
    );
}

#[test]
fn no_region_is_an_error_and_none_is_guessed() {
    let no_region = Chain::key().config(None);
    let message = build_error(builder(&no_region, "orders", "app"));
    assert!(
        message.contains("\"region\" is missing: neither the caller nor the SdkConfig has one"),
        "{message}"
    );
    let provider = builder(&no_region, "orders", "app")
        .with_region("eu-west-1")
        .build()
        .expect("the caller sets it");
    assert!(
        format!("{provider:?}").contains("region: \"eu-west-1\""),
        "{provider:?}"
    );
}

/// A whole URL is given as the name.
#[test]
fn an_invalid_name_is_not_shown() {
    let aws = Chain::key().config(Some("eu-west-1"));
    for name in ["rediss://me:hunter2@orders", "me:hunter2", "hunter2--"] {
        let builder = builder(&aws, name, "app");
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let message = build_error(builder);
        assert!(
            message.contains("\"name\"") && !message.contains("hunter2"),
            "{message}"
        );
    }
}
