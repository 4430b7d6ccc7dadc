//! Signature Version 4 of a presigned `connect` request, used in a process that logs through the
//! `log` crate alone. There the SDK's signer would log the session token at TRACE.
//!
//! The algorithm is AWS's, "Authenticating requests: using query parameters". The result equals
//! that of the SDK and of boto3 to the byte.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use hmac::{Hmac, Mac};
use percent_encoding::utf8_percent_encode;
use sha2::{Digest, Sha256};

use crate::token::Target;
use crate::user::RESERVED;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "rds-db";
const SESSION_TOKEN: &str = "X-Amz-Security-Token";

/// Returns the query of the presigned request. Its last parameter is the signature.
pub(crate) fn signed_query(
    target: &Target,
    credentials: &AwsCredentials,
    second: SystemTime,
    lifetime: Duration,
) -> String {
    // 2026-11-28T06:45:00Z
    let date: String = humantime::format_rfc3339_seconds(second)
        .to_string()
        .replace(['-', ':'], "");
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{SERVICE}/aws4_request", target.region);
    let mut parameters = vec![
        ("Action", "connect".to_owned()),
        ("DBUser", target.user.name().to_owned()),
        ("X-Amz-Algorithm", ALGORITHM.to_owned()),
        (
            "X-Amz-Credential",
            format!("{}/{scope}", credentials.access_key_id()),
        ),
        ("X-Amz-Date", date.clone()),
        ("X-Amz-Expires", lifetime.as_secs().to_string()),
    ];
    if let Some(token) = credentials.session_token() {
        parameters.push((SESSION_TOKEN, token.to_owned()));
    }
    parameters.push(("X-Amz-SignedHeaders", "host".to_owned()));
    // The parameters are signed in alphabetical order.
    let query = join_query(&parameters);
    // A client's header has no port if it is the scheme's default.
    let host = if target.port == 443 {
        target.host.signed().to_owned()
    } else {
        format!("{}:{}", target.host.signed(), target.port)
    };
    let request = format!(
        "GET\n/\n{query}\nhost:{host}\n\nhost\n{}",
        hex(&Sha256::digest(b""))
    );
    let text = format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(request.as_bytes()))
    );
    let key = [day, &target.region, SERVICE, "aws4_request"].iter().fold(
        format!("AWS4{}", credentials.secret_access_key()).into_bytes(),
        |key, part| hmac_sha256(&key, part),
    );
    // The session token comes last, as in botocore.
    parameters.sort_by_key(|(name, _)| *name == SESSION_TOKEN);
    format!(
        "{}&X-Amz-Signature={}",
        join_query(&parameters),
        hex(&hmac_sha256(&key, &text))
    )
}

fn join_query(parameters: &[(&str, String)]) -> String {
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
