//! A request to the operators' port of a running service.

use std::path::Path;
use std::time::Duration;

use claviger::Credentials;
use reqwest::Response;
use serde_json::Value;

use crate::args::{OperatorArgs, TokenArgs};
use crate::finding::one_line;
use crate::secret::Secret;
use crate::{PROBLEM, USAGE};

/// Longest time of a request. A rotation waits for a fetch and for the handovers, 30 s each.
const TIMEOUT: Duration = Duration::from_secs(75);
/// Largest response that is read, in bytes.
const LARGEST: usize = 16 << 20;

/// Reason why an operation has no result, and the exit code.
pub(super) struct Failure(pub(super) String, pub(super) u8);

/// What must not be printed, though the service may repeat it: the operator's own secrets.
#[derive(Default)]
struct Hidden(Vec<Secret>);

impl Hidden {
    fn add(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.0
                .push(Secret::of(&Credentials::new("operator", secret)));
        }
    }

    fn hide(&self, text: &str) -> String {
        let hide = |text: String, secret: &Secret| secret.hide(&text);
        self.0.iter().fold(text.to_owned(), hide)
    }

    /// Hides the secrets in all strings.
    fn hide_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.hide(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(table) => {
                let hidden = std::mem::take(table).into_iter().map(|(key, mut value)| {
                    self.hide_in(&mut value);
                    (self.hide(&key), value)
                });
                *table = hidden.collect();
            }
            _ => {}
        }
    }
}

/// Sends a request and returns the JSON of the response, which contains no secret of the operator.
/// A request with a body has the operator's token.
pub(super) async fn request(
    args: &OperatorArgs,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let mut hidden = Hidden::default();
    let sent = send(args, path, body, &mut hidden).await;
    let hidden_failure = |Failure(reason, code)| Failure(hidden.hide(&reason), code);
    let mut value = sent.map_err(hidden_failure)?;
    hidden.hide_in(&mut value);
    Ok(value)
}

async fn send(
    args: &OperatorArgs,
    path: &str,
    body: Option<&Value>,
    hidden: &mut Hidden,
) -> Result<Value, Failure> {
    let usage = |problem: String| Failure(problem, USAGE);
    // The URL may contain a password, so no error repeats it.
    claviger_config::check_url(&args.url).map_err(|problem| usage(format!("--url {problem}")))?;
    let base = url::Url::parse(&args.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .filter(|url| url.query().is_none())
        .ok_or_else(|| usage("--url is not an address such as http://127.0.0.1:8081".into()))?;
    hidden.add(base.password().unwrap_or_default());
    let address = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    let mut client = crate::http::client(&base).timeout(TIMEOUT);
    if base.scheme() == "http" {
        // A proxy would read the token. For https, it receives the host and the port alone.
        client = client.no_proxy();
    }
    let client = client
        .build()
        .map_err(|_| usage("no HTTP client can be made".into()))?;
    let request = match body {
        None => client.get(address),
        Some(body) => {
            let token = token(&args.token).map_err(usage)?;
            hidden.add(&token);
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
        if error.is_builder() {
            return usage("the token has a character that is not visible ASCII".into());
        }
        problem(if error.is_timeout() {
            "no response within 75 s; the operation continues in the service".into()
        } else {
            "cannot be reached; check --url, and whether the operators' router is mounted".into()
        })
    })?;
    let status = response.status();
    let bytes = read(response).await.map_err(problem)?;
    match serde_json::from_slice::<Value>(&bytes).ok() {
        Some(value) if status.is_success() && is_of_claviger(&value, body.is_some()) => Ok(value),
        Some(value) if value["error"].is_object() => {
            Err(problem(of_error(&value["error"], status.as_u16())))
        }
        _ if status.as_u16() == 404 => Err(problem(format!(
            "/{path} is not mounted there; see the README of claviger-axum"
        ))),
        _ => Err(problem(format!(
            "the response is not that of claviger-axum (HTTP {}); check --url",
            status.as_u16()
        ))),
    }
}

/// Returns whether this is a status, or the result of an operation.
fn is_of_claviger(value: &Value, is_operation: bool) -> bool {
    if is_operation {
        value["operation"].is_string() && value["result"].is_object()
    } else {
        value["providers"].is_array() && value["pools"].is_array()
    }
}

/// Reads the body.
///
/// # Errors
/// It is too large, or it ends early.
async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= LARGEST => bytes.extend(chunk),
            Ok(Some(_)) => return Err("the response is larger than 16 MiB; check --url".into()),
            Ok(None) => return Ok(bytes),
            Err(_) => return Err("the response is not complete".into()),
        }
    }
}

/// Returns the service's message, with what it adds.
fn of_error(error: &Value, status: u16) -> String {
    let text = |value: &Value| value.as_str().map(one_line);
    let mut message = text(&error["message"]).unwrap_or_else(|| format!("HTTP {status}"));
    if status == 401 {
        message += "; the one that was sent is not valid there";
    }
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

/// Returns the operator's token.
fn token(args: &TokenArgs) -> Result<String, String> {
    if let Some(path) = &args.token_file {
        return read_token(path);
    }
    let token = args.token.as_deref().unwrap_or_default().trim();
    if token.is_empty() {
        return Err("give the operator's token by --token-file or CLAVIGER_OPERATOR_TOKEN".into());
    }
    Ok(token.to_owned())
}

fn read_token(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("{} is empty", path.display())),
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

    #[test]
    fn the_operators_secrets_are_hidden_in_every_string() {
        let mut hidden = Hidden::default();
        hidden.add("kestrel-7d1f");
        hidden.add("");
        let mut value = json!({ "kestrel-7d1f": [{ "message": "no kestrel-7d1f, sorry" }, 7] });
        hidden.hide_in(&mut value);
        assert_eq!(value, json!({ "***": [{ "message": "no ***, sorry" }, 7] }));
    }

    #[test]
    fn a_response_of_another_program_is_recognized() {
        let status = json!({ "providers": [], "pools": [] });
        assert!(is_of_claviger(&status, false));
        assert!(!is_of_claviger(&status, true));
        assert!(!is_of_claviger(&json!({ "status": "ok" }), false));
        assert!(!is_of_claviger(&json!([]), true));
    }
}
