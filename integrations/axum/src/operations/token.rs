//! The tokens of operators.

use std::fmt;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Shortest token. `openssl rand -hex 32` returns 64 characters.
const SHORTEST: usize = 32;

/// A token that allows operations: [`operations`](super::operations). Only its digest is kept.
///
/// The token must be random, because nothing but its length is checked: whoever guesses it can hold
/// or rotate every provider. Create one with `openssl rand -hex 32`, for each operator or program
/// its own, and give it to the service as any other secret.
///
/// ```
/// use claviger_axum::OperatorToken;
///
/// let token = OperatorToken::new("on-call", "6f0c4e1b0d5a4f2e9c3b7a8d1e2f3a4b")?;
/// # let _ = token;
/// let error = OperatorToken::new("on-call", "secret").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "token: has 6 characters; give at least 32, as from `openssl rand -hex 32`"
/// );
/// # Ok::<(), claviger_axum::TokenError>(())
/// ```
#[derive(Clone)]
pub struct OperatorToken {
    label: String,
    digest: [u8; 32],
}

impl OperatorToken {
    /// Creates a token. The log names its `label`, which identifies its owner. White space at the
    /// ends of `token` is ignored, such as the line end of a file.
    ///
    /// # Errors
    /// `label` is empty or has control characters; `token` has fewer than 32 characters, or others
    /// than visible ASCII ones. The error does not contain the token.
    pub fn new(label: impl Into<String>, token: impl AsRef<str>) -> Result<Self, TokenError> {
        let label = label.into();
        if label.trim().is_empty() || label.chars().any(char::is_control) {
            return Err(TokenError(
                "label: is empty or has control characters; give a name, such as on-call"
                    .to_owned(),
            ));
        }
        let token = token.as_ref().trim_ascii();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError(
                "token: has a space or another character that is not visible ASCII; give letters \
                 and digits, as from `openssl rand -hex 32`"
                    .to_owned(),
            ));
        }
        if token.len() < SHORTEST {
            return Err(TokenError(format!(
                "token: has {} characters; give at least {SHORTEST}, as from \
                 `openssl rand -hex 32`",
                token.len()
            )));
        }
        Ok(Self {
            label,
            digest: Sha256::digest(token).into(),
        })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }
}

/// Returns the index of a request's token, in a time that does not depend on the tokens. All
/// digests have the same length, so the time does not show the length of a token either.
pub(super) fn find<'t>(
    tokens: impl Iterator<Item = &'t OperatorToken>,
    headers: &HeaderMap,
) -> Option<usize> {
    let given = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, given) = given.split_at_checked("Bearer ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return None;
    }
    let given: [u8; 32] = Sha256::digest(given.trim_ascii()).into();
    let mut found = None;
    for (index, token) in tokens.enumerate() {
        let is_equal: Choice = token.digest.ct_eq(&given);
        if is_equal.into() {
            found = Some(index);
        }
    }
    found
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorToken")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// The reason why an [`OperatorToken`] was not created. It does not contain the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError(String);

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TokenError {}
