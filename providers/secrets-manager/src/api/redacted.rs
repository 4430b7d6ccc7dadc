//! Removes the request's headers from errors of Secrets Manager. The error of a rejected signature
//! quotes them, the session token among them, and the SDK logs each error at TRACE. Without a
//! `tracing` subscriber these lines go to the `log` crate and cannot be silenced.

use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::config::interceptors::BeforeSerializationInterceptorContextRef;
use aws_sdk_secretsmanager::config::{ConfigBag, FrozenLayer, Intercept, RuntimePlugin};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;

/// Text in place of one that quotes the request.
const REDACTED: &str = "redacted: it quotes the request";

/// Interceptor that redacts an operation's errors before they are read.
#[derive(Debug)]
pub(super) struct Redacted(Option<FrozenLayer>);

impl Redacted {
    /// Redacts errors of this operation, whose own deserializer still reads all responses.
    pub(super) fn new(operation: &impl RuntimePlugin) -> Self {
        Self(operation.config())
    }
}

impl Intercept for Redacted {
    fn name(&self) -> &'static str {
        "Redacted"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(operation) = &self.0 else {
            return Ok(());
        };
        bag.interceptor_state()
            .store_put(SharedResponseDeserializer::new(Reader(operation.clone())));
        Ok(())
    }
}

#[derive(Debug)]
struct Reader(FrozenLayer);

impl DeserializeResponse for Reader {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        bag: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        let Some(operation) = self.0.load::<SharedResponseDeserializer>() else {
            return Err(OrchestratorError::other(
                "the operation has no deserializer",
            ));
        };
        let Some(body) = (!response.status().is_success())
            .then(|| response.body().bytes())
            .flatten()
            .and_then(redacted)
        else {
            return operation.deserialize_nonstreaming_with_config(response, bag);
        };
        let mut shown = HttpResponse::new(response.status(), SdkBody::from(body));
        *shown.headers_mut() = response.headers().clone();
        operation.deserialize_nonstreaming_with_config(&shown, bag)
    }
}

/// Returns the body without texts that quote the request; `None` if it has none.
fn redacted(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else {
        return None;
    };
    let mut found = false;
    for value in object.values_mut() {
        if value.as_str().is_some_and(quotes_the_request) {
            *value = Value::from(REDACTED);
            found = true;
        }
    }
    found.then(|| Value::from(object).to_string())
}

fn quotes_the_request(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "x-amz-security-token",
        "canonical string",
        "authorization:",
        "authorization=",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_that_quote_the_request_are_replaced() {
        let quoting = br#"{"__type":"InvalidSignatureException","message":"should have been 'POST\nX-Amz-Security-Token:CANARY'"}"#;
        let shown = redacted(quoting).unwrap_or_default();
        assert!(
            shown.contains("InvalidSignatureException") && !shown.contains("CANARY"),
            "{shown}"
        );
        for body in [
            r#"{"__type":"AccessDeniedException","Message":"Access to KMS is not allowed"}"#,
            "<html>",
            "[]",
            "",
        ] {
            assert_eq!(redacted(body.as_bytes()), None, "{body}");
        }
    }
}
