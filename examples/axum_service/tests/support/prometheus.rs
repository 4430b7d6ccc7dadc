//! What a Prometheus says.

use claviger_servers::Prometheus;
use serde_json::Value;

/// The values of an expression, as text; none where there is no such series.
pub(crate) fn values(prometheus: &Prometheus, expression: &str) -> Vec<String> {
    let answer: Value =
        serde_json::from_str(&prometheus.query(expression).expect("it answers")).expect("JSON");
    let series = answer["data"]["result"]
        .as_array()
        .expect("a vector")
        .iter();
    series
        .map(|one| one["value"][1].as_str().expect("a value").to_owned())
        .collect()
}
