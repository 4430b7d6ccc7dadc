//! The manifests in `ops/`: they are valid YAML, and agree with the example service, with each
//! other and with the guide.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;

use yaml_rust2::{Yaml, YamlLoader};

use crate::markdown;

fn read(path: &str) -> String {
    fs::read_to_string(markdown::root().join(path)).expect("it is read")
}

fn documents(path: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&read(path)).expect("it is YAML")
}

fn texts(list: &Yaml) -> Vec<&str> {
    let list = list.as_vec().expect("a list");
    list.iter()
        .map(|one| one.as_str().expect("a text"))
        .collect()
}

/// Returns the only document of this kind and name.
fn resource<'d>(documents: &'d [Yaml], kind: &str, name: &str) -> &'d Yaml {
    let mut found = documents.iter().filter(|document| {
        document["kind"].as_str() == Some(kind)
            && document["metadata"]["name"].as_str() == Some(name)
    });
    let resource = found.next().expect("the resource");
    assert!(found.next().is_none(), "two of {kind} {name}");
    resource
}

/// The arguments of the example service: addresses for customers and operators, the database, the
/// folder of the credentials.
const ARGUMENTS: [&str; 4] = [
    "0.0.0.0:8080",
    "0.0.0.0:8081",
    "postgres://db:5432/orders",
    "/etc/orders-db",
];

/// Returns the sum of the default bounds of the example service's shutdown, in seconds.
fn shutdown_seconds() -> i64 {
    let source = read("examples/axum_service/src/serve.rs");
    let (_, defaults) = source.split_once("fn default()").expect("the defaults");
    let seconds = defaults.split("Duration::from_secs(").skip(1).take(3);
    seconds
        .map(|rest| rest.split(')').next().expect("a number"))
        .map(|number| number.parse::<i64>().expect("a number"))
        .sum()
}

#[test]
fn the_deployment_runs_the_example_service() {
    let documents = documents("ops/kubernetes/orders.yaml");
    let pod = &resource(&documents, "Deployment", "orders")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(texts(&container["args"]), ARGUMENTS);

    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["mountPath"].as_str(), Some(ARGUMENTS[3]));
    assert!(
        mount["subPath"].is_badvalue(),
        "such a mount is never updated"
    );
    let volume = &pod["volumes"][0];
    assert_eq!(volume["name"], mount["name"]);
    let secret = resource(&documents, "Secret", "orders-db");
    assert_eq!(volume["secret"]["secretName"], secret["metadata"]["name"]);
    assert!(pod["securityContext"]["fsGroup"].as_i64().is_some());

    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"].as_str(), Some(path));
        assert_eq!(container[probe]["httpGet"]["port"].as_str(), Some("http"));
    }
    let port = &container["ports"][0];
    assert_eq!(
        (port["name"].as_str(), port["containerPort"].as_i64()),
        (Some("http"), Some(8080))
    );

    let grace = pod["terminationGracePeriodSeconds"]
        .as_i64()
        .expect("a number");
    assert_eq!(shutdown_seconds(), 23);
    assert!(grace > shutdown_seconds(), "{grace} s");
}

#[test]
fn the_compose_file_runs_the_example_service() {
    let documents = documents("ops/compose/compose.yaml");
    let service = &documents[0]["services"]["orders"];
    assert_eq!(texts(&service["command"]), ARGUMENTS);
    let build = &service["build"];
    let (context, dockerfile) = (build["context"].as_str(), build["dockerfile"].as_str());
    assert_eq!(
        (context, dockerfile),
        (Some("../.."), Some("ops/Dockerfile"))
    );
    assert_eq!(
        texts(&service["volumes"]),
        ["./credentials:/etc/orders-db:ro"]
    );
    let grace = service["stop_grace_period"].as_str().expect("a duration");
    let grace: i64 = grace.trim_end_matches('s').parse().expect("seconds");
    assert!(grace > shutdown_seconds(), "{grace} s");
}

#[test]
fn credentials_and_databases_agree() {
    let (user, password) = (
        read("ops/compose/credentials/username"),
        read("ops/compose/credentials/password"),
    );
    let init = read("ops/compose/init.sql");
    assert!(
        init.contains(&format!("CREATE ROLE {user} LOGIN PASSWORD '{password}';")),
        "{init}"
    );

    let orders = documents("ops/kubernetes/orders.yaml");
    let secret = &resource(&orders, "Secret", "orders-db")["stringData"];
    assert_eq!(secret["username"].as_str(), Some(user.as_str()));
    assert_eq!(secret["password"].as_str(), Some(password.as_str()));

    let postgres = documents("ops/kubernetes/postgres.yaml");
    let data = &resource(&postgres, "ConfigMap", "orders-init")["data"]["init.sql"];
    let statements = init.lines().filter(|line| !line.starts_with("--"));
    assert!(data.as_str().expect("a text").lines().eq(statements));
    resource(&postgres, "Service", "db");
}

#[test]
fn the_image_is_built_with_the_workspace_s_rust() {
    let (manifest, dockerfile) = (read("Cargo.toml"), read("ops/Dockerfile"));
    let (_, rest) = manifest.split_once("rust-version = \"").expect("a version");
    let (version, _) = rest.split_once('"').expect("a version");
    assert!(
        dockerfile.contains(&format!("ARG RUST_VERSION={version}\n")),
        "{dockerfile}"
    );
    assert!(dockerfile.contains("--package axum_service"));
}

#[test]
fn every_yaml_block_of_the_guide_is_valid() {
    let mut checked = 0;
    for (path, text) in markdown::files().expect("the files are read") {
        for block in markdown::split(&text).1 {
            if block.info == "yaml" {
                let parsed = YamlLoader::load_from_str(&block.code);
                assert!(parsed.is_ok(), "{path}: {parsed:?}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 2, "{checked}");
}
