//! An invalid argument is an error when the provider is built, and the error names it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aws_config::SdkConfig;
use claviger::error::ProviderErrorKind;
use claviger_rds_iam::{RdsIam, RdsIamBuilder};
use common::{Chain, HOST, USER};

/// Returns the error for invalid arguments.
fn build_error(builder: RdsIamBuilder) -> String {
    let error = builder.build().expect_err("the arguments are invalid");
    assert_eq!(error.kind(), ProviderErrorKind::Misconfigured, "{error}");
    assert!(!error.is_transient());
    error.to_string()
}

#[test]
fn each_argument_is_named() {
    let aws = Chain::key().config(Some("eu-west-1"));
    for (builder, expected) in [
        (RdsIam::builder(&aws, "", 5432, USER), "\"host\" is empty"),
        (
            RdsIam::builder(&aws, "https://db", 5432, USER),
            "\"host\" has a scheme",
        ),
        (
            RdsIam::builder(&aws, "db:5432", 5432, USER),
            "\"host\" is neither",
        ),
        (RdsIam::builder(&aws, "db", 0, USER), "\"port\" is 0"),
        (RdsIam::builder(&aws, "db", 5432, ""), "\"user\" is empty"),
        (
            RdsIam::builder(&aws, "db", 5432, "a\0b"),
            "\"user\" has a NUL in \"a\\0b\"",
        ),
        (
            RdsIam::builder(&aws, "db", 5432, USER).with_region(""),
            "\"region\" of the caller",
        ),
        (
            RdsIam::builder(&aws, "db", 5432, USER).with_lifetime(Duration::from_secs(901)),
            "\"lifetime\" must be between 3 s and 15 min, not 901s",
        ),
        (
            RdsIam::builder(&aws, "db", 5432, USER).with_lifetime(Duration::from_millis(2_999)),
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
        .region(aws_config::Region::new("eu-west-1"))
        .build();
    assert!(
        build_error(RdsIam::builder(&bare, "db", 5432, USER))
            .contains("\"SdkConfig\" has no credentials provider")
    );
}

#[test]
fn no_region_is_an_error_and_none_is_guessed() {
    let no_region = Chain::key().config(None);
    let message = build_error(RdsIam::builder(&no_region, "db.internal", 5432, USER));
    assert!(message.contains("\"region\" is missing"), "{message}");
    for builder in [
        RdsIam::builder(&no_region, HOST, 5432, USER),
        RdsIam::builder(&no_region, "db.internal", 5432, USER).with_region("eu-west-1"),
        RdsIam::builder(
            &Chain::key().config(Some("eu-west-1")),
            "db.internal",
            5432,
            USER,
        ),
    ] {
        let provider = builder.build().expect("one of the three sets it");
        assert!(
            format!("{provider:?}").contains("region: \"eu-west-1\""),
            "{provider:?}"
        );
    }
}

#[test]
fn regions_that_disagree_are_both_named() {
    let elsewhere = Chain::key().config(Some("us-east-1"));
    for (builder, sources) in [
        (
            RdsIam::builder(&elsewhere, HOST, 5432, USER),
            ["the SdkConfig", "the endpoint's name"],
        ),
        (
            RdsIam::builder(&elsewhere, "db", 5432, USER).with_region("eu-west-1"),
            ["the caller", "the SdkConfig"],
        ),
        (
            RdsIam::builder(&Chain::key().config(None), HOST, 5432, USER).with_region("us-east-1"),
            ["the caller", "the endpoint's name"],
        ),
    ] {
        let message = build_error(builder);
        assert!(
            message.contains("us-east-1") && message.contains("eu-west-1"),
            "{message}"
        );
        assert!(
            sources.iter().all(|source| message.contains(source)),
            "{message}"
        );
    }
}

/// A whole URL is given as the host.
#[test]
fn an_invalid_host_is_not_shown() {
    let aws = Chain::key().config(Some("eu-west-1"));
    for host in [
        "postgres://me:hunter2@db.example/orders",
        "me:hunter2@db.example",
        "me:hunter2",
    ] {
        let builder = RdsIam::builder(&aws, host, 5432, USER);
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let message = build_error(builder);
        assert!(
            message.contains("\"host\"") && !message.contains("hunter2"),
            "{message}"
        );
    }
}
