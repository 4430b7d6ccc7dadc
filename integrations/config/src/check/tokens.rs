//! Checks of pools whose credentials are tokens.

use std::time::Duration;

use super::Surroundings;
use crate::error::Problem;
use crate::resolved_pool::{Engine, ModeOrigin, ResolvedPool, TOKEN_LIFETIME};
use crate::schema::SslMode;

/// Checks TLS and the age of connections. Without verified TLS, pools send no token, and a start
/// fails. What an examination of the pool shows with its step is no problem of the file there.
pub(super) fn check_tokens(
    pool: &ResolvedPool,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) {
    if !pool.has_tokens() {
        return;
    }
    let engine = pool.kind.engine();
    let is_shown_later = surroundings.pools_apart && pool.ssl_mode() != Some(SslMode::VerifyCa);
    let is_verified = match pool.ssl_mode() {
        Some(SslMode::VerifyFull) => true,
        Some(SslMode::VerifyCa) => engine == Engine::Mysql,
        _ => false,
    };
    if !is_verified && !is_shown_later {
        let (key, message) = if pool.is_socket() {
            let message = "is a Unix socket, and a token is sent only over verified TLS; give the \
                           server's name";
            ("host", message)
        } else {
            let key = match pool.ssl_mode_origin() {
                ModeOrigin::Key => "ssl_mode",
                ModeOrigin::Url | ModeOrigin::Environment(_) => "url",
            };
            let message = "does not verify the server, and a token is sent only to a verified \
                           server; give `verify-full`";
            (key, message)
        };
        problems.push(Problem::new(pool.key(key), message));
    }
    // A service may have reasons for it.
    let is_for_people = surroundings.for_tools && !surroundings.pools_apart;
    let is_long = pool.has_tokens_of_iam() && pool.max_lifetime() > TOKEN_LIFETIME;
    if is_for_people && engine != Engine::Redis && is_long {
        let given = pool.max_lifetime();
        let given = humantime::format_duration(Duration::from_secs(given.as_secs()));
        let message = format!(
            "is {given}, and a token of IAM is valid for 15m: connections would outlast the \
             identity that opened them; give \"14m\""
        );
        problems.push(Problem::new(pool.key("connection_max_lifetime"), message));
    }
}
