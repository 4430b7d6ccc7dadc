//! `claviger status`, `rotate` and `rehearse`: requests to the operators' port of a running
//! service, which `claviger-axum` serves.

mod request;

use serde_json::{Value, json};

use crate::args::{OperatorArgs, TargetArgs};
use crate::columns::padded;
use crate::finding::one_line;
use crate::{FINE, PROBLEM, complain, print};
use request::{Failure, request};

/// Prints the status of a running service. The exit code is 1 if a pool does not serve.
pub(crate) async fn status(args: &OperatorArgs) -> u8 {
    match request(args, "status", None).await {
        Ok(status) => {
            let code = if all_serve(&status) { FINE } else { PROBLEM };
            if args.json {
                print(&pretty(&status), code)
            } else {
                print(&table(&status), code)
            }
        }
        Err(Failure(reason, code)) => complain(&reason, code),
    }
}

/// Requests an operation on a provider or pool, and prints its result.
pub(crate) async fn operate(operation: &str, key: &str, args: &TargetArgs) -> u8 {
    let body = json!({ key: args.name });
    match request(&args.operator, operation, Some(&body)).await {
        Ok(response) => {
            let code = code_of_result(&response["result"]);
            if args.operator.json {
                return print(&pretty(&response), code);
            }
            let name = one_line(&args.name);
            print(&summary(operation, &name, &response["result"]), code)
        }
        Err(Failure(reason, code)) => complain(&reason, code),
    }
}

/// Returns the exit code of an operation. An unfinished rotation, or a rehearsal that a pool
/// rejected, is a problem.
fn code_of_result(result: &Value) -> u8 {
    let pools = result["pools"].as_array().into_iter().flatten();
    let is_rejected = pools.into_iter().any(|pool| !pool["error"].is_null());
    if result["outcome"] == "unfinished" || is_rejected {
        PROBLEM
    } else {
        FINE
    }
}

fn summary(operation: &str, name: &str, result: &Value) -> String {
    let mut line = match result["outcome"].as_str() {
        Some(outcome) => format!("{operation} {name}: {}", one_line(outcome)),
        None => format!("{operation} {name}: done"),
    };
    if let Some(took) = result["took_seconds"].as_f64() {
        line += &format!(" in {took:.1} s");
    }
    let names = |value: &Value| -> Vec<String> {
        let names = value.as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(one_line).collect()
    };
    let waiting = names(&result["waiting"]);
    if !waiting.is_empty() {
        line += &format!("; still retrying: {}", waiting.join(", "));
    }
    for pool in result["pools"].as_array().into_iter().flatten() {
        line += &format!("\n  {}", rehearsed(pool));
    }
    line
}

/// Returns what a rotation would do to a pool, as a rehearsal found.
fn rehearsed(pool: &Value) -> String {
    let name = one_line(pool["pool"].as_str().unwrap_or_default());
    if !pool["error"].is_null() {
        let reason = pool["error"]["message"].as_str().unwrap_or("no reason");
        return format!("{name}: FAIL, {}", one_line(reason));
    }
    let number = |key: &str| pool[key].as_u64().unwrap_or_default();
    let handover = match pool["mode"].as_str() {
        Some("replace") => format!(
            "a rotation opens {} ahead, and {} in use drain",
            number("opens"),
            number("in_use")
        ),
        _ => "a rotation updates it in place".to_owned(),
    };
    format!(
        "{name}: verified; {handover}; at most {} connections (the pool has {}, and {} are open)",
        number("at_most"),
        number("max_connections"),
        number("connections")
    )
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn pools(status: &Value) -> impl Iterator<Item = &Value> {
    status["pools"].as_array().into_iter().flatten()
}

fn all_serve(status: &Value) -> bool {
    pools(status).all(|pool| pool["serving"] == true)
}

/// Returns one row for each pool, and the last errors.
fn table(status: &Value) -> String {
    let mut lines = vec![format!(
        "{:<24}{:<11}{:>11}{:>10}{:>12}{:>10}",
        "pool", "state", "generation", "expires", "connections", "draining"
    )];
    for pool in pools(status) {
        let number = |key: &str| pool[key].as_u64().unwrap_or_default();
        let state = match (&pool["serving"], &pool["rejected"]) {
            (_, Value::Bool(true)) => "rejected",
            (Value::Bool(true), _) => "serving",
            _ => "waiting",
        };
        let drains = pool["draining"].as_array().into_iter().flatten();
        let draining: u64 = drains
            .filter_map(|drain| drain["connections"].as_u64())
            .sum();
        let connections = format!("{}/{}", number("connections"), number("max_connections"));
        let name = one_line(pool["name"].as_str().unwrap_or_default());
        lines.push(format!(
            "{} {state:<11}{:>11}{:>10}{connections:>12}{draining:>10}",
            padded(&name, 23),
            number("generation"),
            remaining(&pool["remaining_seconds"])
        ));
    }
    for (kind, list) in [
        ("provider", &status["providers"]),
        ("pool", &status["pools"]),
    ] {
        for item in list.as_array().into_iter().flatten() {
            if let Some(message) = item["last_error"]["message"].as_str() {
                let name = one_line(item["name"].as_str().unwrap_or_default());
                lines.push(format!("{kind} {name}: {}", one_line(message)));
            }
        }
    }
    lines.join("\n")
}

fn remaining(seconds: &Value) -> String {
    match seconds.as_f64() {
        None => "never".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0} s"),
        Some(seconds) if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        Some(seconds) => format!("{:.0} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_one_row_of_80_columns_at_most() {
        let status = json!({
            "providers": [{ "name": "orders-credentials", "last_error": { "message": "sealed" } }],
            "pools": [{
                "name": "orders", "serving": true, "rejected": false, "generation": 4,
                "remaining_seconds": 780.4, "connections": 7, "max_connections": 10,
                "draining": [{ "connections": 2 }, { "connections": 1 }], "last_error": null,
            }],
        });
        let table = table(&status);
        let rows: Vec<_> = table.lines().collect();
        let expected =
            "orders                  serving              4    13 min        7/10         3";
        assert_eq!(rows[1], expected);
        assert_eq!(rows[2], "provider orders-credentials: sealed");
        assert!(rows.iter().all(|row| row.len() <= 80), "{table}");
        assert!(all_serve(&status));
    }

    #[test]
    fn an_unfinished_rotation_and_a_rejected_rehearsal_are_problems() {
        let unfinished = json!({ "outcome": "unfinished", "waiting": ["orders"] });
        assert_eq!(code_of_result(&unfinished), PROBLEM);
        let line = summary("rotate", "app", &unfinished);
        assert_eq!(line, "rotate app: unfinished; still retrying: orders");
        assert_eq!(code_of_result(&json!({ "outcome": "adopted" })), FINE);
        let rejected = json!({ "pools": [{ "pool": "orders", "error": { "message": "no" } }] });
        assert_eq!(code_of_result(&rejected), PROBLEM);
        let shown = summary("rehearse", "app", &rejected);
        assert_eq!(shown, "rehearse app: done\n  orders: FAIL, no");
        let verified = json!({ "pools": [{
            "pool": "orders", "error": null, "mode": "replace", "opens": 3, "in_use": 2,
            "at_most": 12, "max_connections": 10, "connections": 5,
        }] });
        assert_eq!(
            summary("rehearse", "app", &verified),
            "rehearse app: done\n  orders: verified; a rotation opens 3 ahead, and 2 in use drain; \
             at most 12 connections (the pool has 10, and 5 are open)"
        );
        assert_eq!(code_of_result(&Value::Null), FINE);
    }
}
