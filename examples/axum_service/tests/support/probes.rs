//! Requests of Kubernetes' probes and of an operator, ten times a second.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::http::get;

/// Pause between two probes. With the time of the responses, there are ten a second.
const PAUSE: Duration = Duration::from_millis(90);

/// Observations of the probes.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) ready: usize,
    pub(crate) unready: usize,
    /// The body of every response.
    pub(crate) bodies: Vec<String>,
}

/// Probes until `over` is set. Asserts that `/livez` is always 200, and that `/readyz` is 503 if
/// and only if `/status` has a reason.
pub(crate) fn probe(customers: SocketAddr, operators: SocketAddr, over: &AtomicBool) -> Observed {
    let mut observed = Observed::default();
    while !over.load(Ordering::Acquire) {
        let (code, liveness) = get_from(customers, "/livez", &mut observed);
        assert!(
            code == 200 && liveness["alive"] == true,
            "{code} {liveness}"
        );
        let (_, before) = get_from(operators, "/status", &mut observed);
        let (code, ready) = get_from(customers, "/readyz", &mut observed);
        let (_, after) = get_from(operators, "/status", &mut observed);
        assert_eq!(
            code,
            if ready["ready"] == true { 200 } else { 503 },
            "{ready}"
        );
        assert_eq!(
            code == 200,
            ready["reasons"].as_array().expect("a list").is_empty(),
            "{ready}"
        );
        // A status that changes between the two reads cannot be compared.
        if is_good(&before) == is_good(&after) && generations(&before) == generations(&after) {
            assert_eq!(code == 200, is_good(&before), "{ready} {before}");
        }
        *if code == 200 {
            &mut observed.ready
        } else {
            &mut observed.unready
        } += 1;
        thread::sleep(PAUSE);
    }
    observed
}

fn get_from(address: SocketAddr, path: &str, observed: &mut Observed) -> (u16, Value) {
    let (code, body) = get(address, path).expect("it responds");
    let value = serde_json::from_str(&body).expect("JSON");
    observed.bodies.push(body);
    (code, value)
}

fn pools(status: &Value) -> &Vec<Value> {
    status["pools"].as_array().expect("a list")
}

fn generations(status: &Value) -> Vec<&Value> {
    pools(status)
        .iter()
        .map(|pool| &pool["generation"])
        .collect()
}

/// Returns whether a status allows traffic.
fn is_good(status: &Value) -> bool {
    let is_unexpired = |lease: &Value| {
        lease["remaining_seconds"]
            .as_f64()
            .is_none_or(|left| left >= 5.0)
    };
    let has_lease = |provider: &Value| !provider["revision"].is_null() && is_unexpired(provider);
    let is_verified = |pool: &Value| {
        pool["generation"] != 0
            && pool["serving"] == true
            && pool["rejected"] == false
            && is_unexpired(pool)
    };
    status["providers"]
        .as_array()
        .expect("a list")
        .iter()
        .all(has_lease)
        && pools(status).iter().all(is_verified)
}
