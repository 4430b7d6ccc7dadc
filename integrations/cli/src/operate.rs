//! `claviger status`, `rotate` and `rehearse`: requests to the operators' port of a running
//! service, which `claviger-axum` serves.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::args::{OperatorArgs, TargetArgs};
use crate::finding::one_line;
use crate::{FINE, PROBLEM, USAGE, complain, print};

/// Longest time of a request. A rotation waits for a fetch and for the handovers, 30 s each.
const TIMEOUT: Duration = Duration::from_secs(75);
/// Largest response that is read, in bytes.
const LARGEST: usize = 16 << 20;

/// Reason why an operation has no result, and the exit code.
struct Failure(String, u8);

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
    line
}

async fn request(args: &OperatorArgs, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let usage = |problem: String| Failure(problem, USAGE);
    // The URL may contain a password, so no error repeats it.
    let base = url::Url::parse(&args.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| usage("--url is not an address such as http://127.0.0.1:8081".into()))?;
    let address = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|_| usage("no HTTP client can be made".into()))?;
    let request = match body {
        None => client.get(address),
        Some(body) => {
            let token = args.token_file.as_deref().map(read_token).transpose();
            let token = token.map_err(usage)?.or_else(|| args.token.clone());
            let token = token.ok_or_else(|| {
                usage("give the operator's token by --token-file or CLAVIGER_OPERATOR_TOKEN".into())
            })?;
            client
                .post(address)
                .bearer_auth(token)
                .header("content-type", "application/json")
                .body(body.to_string())
        }
    };
    let place = one_line(base.host_str().unwrap_or_default());
    let problem = |reason: String| Failure(format!("{place}: {reason}"), PROBLEM);
    let response = request.send().await.map_err(|error| {
        problem(if error.is_timeout() {
            "no response within 75 s; the operation continues in the service".into()
        } else {
            "cannot be reached; check --url, and whether the operators' router is mounted".into()
        })
    })?;
    let status = response.status();
    let bytes = response.bytes().await;
    let bytes = bytes.map_err(|_| problem("the response is not complete".into()))?;
    let value = (bytes.len() <= LARGEST)
        .then(|| serde_json::from_slice::<Value>(&bytes).ok())
        .flatten();
    match value {
        Some(value) if status.is_success() => Ok(value),
        Some(value) => Err(problem(of_error(&value["error"], status.as_u16()))),
        None if status.as_u16() == 404 => Err(problem(format!(
            "/{path} is not mounted there; see the README of claviger-axum"
        ))),
        None => Err(problem(format!("the response is no JSON (HTTP {status})"))),
    }
}

/// Returns the service's message, with what it adds.
fn of_error(error: &Value, status: u16) -> String {
    let text = |value: &Value| value.as_str().map(one_line);
    let mut message = text(&error["message"]).unwrap_or_else(|| format!("HTTP {status}"));
    if let Some(nearest) = text(&error["nearest"]) {
        message += &format!("; the nearest name is {nearest}");
    }
    if let Some(seconds) = error["retry_after_seconds"].as_u64() {
        message += &format!("; try again in {seconds} s");
    }
    if let Some(cause) = text(&error["cause"]["message"]) {
        message += &format!(": {cause}");
    }
    message
}

fn read_token(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("{} is empty", path.display())),
        token => Ok(token.to_owned()),
    }
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
        lines.push(format!(
            "{:<24}{state:<11}{:>11}{:>10}{connections:>12}{draining:>10}",
            cut(pool["name"].as_str().unwrap_or_default(), 23),
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

fn cut(text: &str, length: usize) -> String {
    one_line(text).chars().take(length).collect()
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
        let rejected = json!({ "pools": [{ "error": { "message": "no" } }] });
        assert_eq!(code_of_result(&rejected), PROBLEM);
        assert_eq!(code_of_result(&Value::Null), FINE);
    }

    #[test]
    fn an_error_contains_what_the_service_adds() {
        let error = json!({ "message": "no provider \"app\"", "nearest": "apps" });
        assert_eq!(
            of_error(&error, 404),
            "no provider \"app\"; the nearest name is apps"
        );
        let error = json!({ "message": "too many", "retry_after_seconds": 3 });
        assert_eq!(of_error(&error, 429), "too many; try again in 3 s");
        assert_eq!(of_error(&Value::Null, 500), "HTTP 500");
    }
}
