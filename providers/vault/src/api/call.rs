//! One request. vaultrs' own endpoints drop leases and versions from the response.

use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde_json::Value;

use super::Response;

/// Handles a response that arrives after the timeout.
pub(super) type LateHandler = Box<dyn FnOnce(Response) + Send + Sync>;

/// A method, a path below `/v1/`, and a body. Without `Debug`, because it may contain a secret.
pub(crate) struct Call {
    method: RequestMethod,
    path: String,
    body: Option<Value>,
    pub(super) late: Option<LateHandler>,
    is_optional: bool,
}

impl Call {
    /// Makes a request that reads this path.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: RequestMethod::GET,
            path: path.into(),
            body: None,
            late: None,
            is_optional: false,
        }
    }

    /// Makes a request that writes to this path.
    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self {
            method: RequestMethod::POST,
            path: path.into(),
            body: Some(body),
            late: None,
            is_optional: false,
        }
    }

    /// Marks a 403 by policy as an expected response, which is not retried for a new token.
    pub(crate) fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.is_optional
    }

    /// Passes a response that arrives after the timeout to `late`, so that what the call created
    /// is not lost.
    pub(crate) fn when_late(mut self, late: impl FnOnce(Response) + Send + Sync + 'static) -> Self {
        self.late = Some(Box::new(late));
        self
    }
}

impl Endpoint for Call {
    type Response = Value;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.as_ref().map(|body| body.to_string().into_bytes()))
    }
}
