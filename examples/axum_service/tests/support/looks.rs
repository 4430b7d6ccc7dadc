//! Probes and an operator, ten times a second.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::http::get;

/// With what the answers take, ten times a second.
const BETWEEN: Duration = Duration::from_millis(90);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) ready: usize,
    pub(crate) unready: usize,
    /// Every answer.
    pub(crate) bodies: Vec<String>,
}

/// Looks until it is over: `/livez` is always 200, and `/readyz` is 503 exactly while `/status`
/// says so.
pub(crate) fn look(customers: SocketAddr, operators: SocketAddr, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !over.load(Ordering::Acquire) {
        let (code, alive) = ask(customers, "/livez", &mut seen);
        assert!(code == 200 && alive["alive"] == true, "{code} {alive}");
        let (_, before) = ask(operators, "/status", &mut seen);
        let (code, ready) = ask(customers, "/readyz", &mut seen);
        let (_, after) = ask(operators, "/status", &mut seen);
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
        // What changes while it is looked at tells nothing.
        if is_good(&before) == is_good(&after) && generations(&before) == generations(&after) {
            assert_eq!(code == 200, is_good(&before), "{ready} {before}");
        }
        *if code == 200 {
            &mut seen.ready
        } else {
            &mut seen.unready
        } += 1;
        thread::sleep(BETWEEN);
    }
    seen
}

fn ask(address: SocketAddr, path: &str, seen: &mut Seen) -> (u16, Value) {
    let (code, body) = get(address, path).expect("it answers");
    let value = serde_json::from_str(&body).expect("JSON");
    seen.bodies.push(body);
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

/// Whether a status says that traffic should come here.
fn is_good(status: &Value) -> bool {
    let lives = |one: &Value| {
        one["remaining_seconds"]
            .as_f64()
            .is_none_or(|left| left >= 5.0)
    };
    let holds = |provider: &Value| !provider["revision"].is_null() && lives(provider);
    let serves = |pool: &Value| {
        pool["generation"] != 0
            && pool["serving"] == true
            && pool["rejected"] == false
            && lives(pool)
    };
    status["providers"]
        .as_array()
        .expect("a list")
        .iter()
        .all(holds)
        && pools(status).iter().all(serves)
}
