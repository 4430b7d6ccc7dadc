//! Signature Version 4 of a presigned `connect` request.
//!
//! The algorithm is AWS's, "Authenticating requests: using query parameters". The result equals
//! that of boto3 to the byte. The SDK's signer is not used, because it logs the session token at
//! TRACE. It cannot be silenced in a process that logs through the `log` crate.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::request::ConnectRequest;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// All characters but the unreserved ones of RFC 3986, as Signature Version 4 requires.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A presigned query. Without `Debug`, because it is a secret.
pub(crate) struct Presigned {
    /// The query without its last parameter, the signature.
    pub(crate) query: String,
    /// The date in the query, as `20261128T064500Z`.
    pub(crate) date: String,
    /// The signature, in lower-case hexadecimal digits.
    pub(crate) signature: String,
}

/// Signs the request, dated `second`.
pub(crate) fn presign(
    request: &ConnectRequest,
    credentials: &AwsCredentials,
    second: SystemTime,
    lifetime: Duration,
) -> Presigned {
    // 2026-11-28T06:45:00Z
    let date: String = humantime::format_rfc3339_seconds(second)
        .to_string()
        .replace(['-', ':'], "");
    let day = date.get(..8).unwrap_or_default();
    let (region, service) = (&*request.region, request.service);
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let key = format!("{}/{scope}", credentials.access_key_id());
    let lifetime = lifetime.as_secs().to_string();

    // In the order of botocore.
    let mut parameters = vec![("Action", "connect"), (request.user.0, &*request.user.1)];
    parameters.extend(request.more.iter().map(|(name, value)| (*name, &**value)));
    parameters.extend([
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &*key),
        ("X-Amz-Date", &*date),
        ("X-Amz-Expires", &*lifetime),
        ("X-Amz-SignedHeaders", "host"),
    ]);
    parameters.extend(
        credentials
            .session_token()
            .map(|token| ("X-Amz-Security-Token", token)),
    );
    let query = join_query(&parameters);
    // They are signed in alphabetical order.
    parameters.sort_unstable();
    let canonical = format!(
        "GET\n/\n{}\nhost:{}\n\nhost\n{}",
        join_query(&parameters),
        request.header,
        hex(&Sha256::digest(b""))
    );
    let text = format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let key = [day, region, service, "aws4_request"].iter().fold(
        format!("AWS4{}", credentials.secret_access_key()).into_bytes(),
        |key, part| hmac_sha256(&key, part),
    );
    let signature = hex(&hmac_sha256(&key, &text));
    Presigned {
        query,
        date,
        signature,
    }
}

fn join_query(parameters: &[(&str, &str)]) -> String {
    let parts: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, RESERVED)))
        .collect();
    parts.join("&")
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    // A key may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
