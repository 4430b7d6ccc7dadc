//! Queries of a Prometheus.

use claviger_servers::Prometheus;
use serde_json::Value;

/// Returns the values of an expression, as text; none if there is no such series.
pub(crate) fn values(prometheus: &Prometheus, expression: &str) -> Vec<String> {
    let response: Value =
        serde_json::from_str(&prometheus.query(expression).expect("it responds")).expect("JSON");
    let series = response["data"]["result"]
        .as_array()
        .expect("a vector")
        .iter();
    series
        .map(|sample| sample["value"][1].as_str().expect("a value").to_owned())
        .collect()
}
