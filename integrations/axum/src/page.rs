//! The status page: one self-contained document that follows the supervisor by server-sent events.

mod format;
mod history;
mod live;
mod node;
mod problem;
mod view;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use claviger::Supervisor;
use sha2::{Digest, Sha256};

use live::Live;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Time after which a client that got no stream should try again, in seconds.
const RETRY: HeaderValue = HeaderValue::from_static("5");

/// Identifies the document's fixed parts. A page that gets another one in its stream is older than
/// the service.
static VERSION: LazyLock<String> = LazyLock::new(|| hash(&[TEMPLATE, STYLE, SCRIPT].concat()));

/// Nothing is loaded from elsewhere, and only this style and this script are applied. Values are
/// never HTML: a browser with trusted types enforces that, too.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::try_from(policy).ok()
});

fn hash(text: &str) -> String {
    BASE64.encode(Sha256::digest(text))
}

/// Returns the status page for operators: `/`, and `/events`, which keeps it up to date.
///
/// It shows pools, generations, the time to expiry, and connections that serve and drain. It shows
/// problems with the operators' manual's advice, and the last 50 rotations as a timeline. It
/// contains what [`status`](crate::status) contains: nothing secret, but nothing for the public.
///
/// - The page is one document without other files. Its content security policy allows its own style
///   and script alone. All of its addresses are relative, so the router may be nested.
/// - Each client gets a whole snapshot at first and after changes, at most three per second, and
///   the time every 15 s. After 40 s without either, the page shows that it is not live, and
///   connects again. A hidden tab has no stream. 16 clients are served at a time; another one gets
///   503 and tries again.
/// - A stream ends after 15 minutes, and the browser connects again. All end once
///   [`Supervisor::announce_shutdown`] or [`Supervisor::shutdown`] was called, so that a graceful
///   shutdown does not wait for them.
/// - After an upgrade of the service, an open page reloads itself.
/// - Without JavaScript, the page shows the present state and reloads itself.
///
/// Rotations and errors are noted from this call on, or, outside of a tokio runtime, from the first
/// request on. The page sends no query and no request to a backend.
pub fn page<S: Clone + Send + Sync + 'static>(supervisor: &Supervisor) -> Router<S> {
    let live = Live::new(supervisor.clone());
    let stream = Arc::clone(&live);
    Router::new()
        .route(
            "/",
            get(async move || protected(([HTML], document(&live)).into_response())),
        )
        .route(
            "/events",
            get(async move || {
                let response = match stream.events() {
                    Some(events) => Sse::new(events).into_response(),
                    None => {
                        let headers = [(header::RETRY_AFTER, RETRY)];
                        (StatusCode::SERVICE_UNAVAILABLE, headers).into_response()
                    }
                };
                protected(response)
            }),
        )
}

const HTML: (HeaderName, HeaderValue) = (
    header::CONTENT_TYPE,
    HeaderValue::from_static("text/html; charset=utf-8"),
);

/// Fills the template.
fn document(live: &Arc<Live>) -> String {
    live.snapshot(|snapshot| {
        let mut main = String::new();
        for node in snapshot.main() {
            node.write_html(&mut main);
        }
        let mut now = String::new();
        let at = snapshot.now.wall();
        format::time_of_day(at, at).write_html(&mut now);
        now.push_str(" UTC");
        let mut html = String::with_capacity(TEMPLATE.len() + STYLE.len() + SCRIPT.len());
        // In one pass, so that a marker inside a value is not filled.
        let mut rest = TEMPLATE;
        while let Some((before, from_marker)) = rest.split_once("{{") {
            let (marker, after) = from_marker.split_once("}}").unwrap_or((from_marker, ""));
            html.push_str(before);
            html.push_str(match marker {
                "title" => snapshot.title(),
                "style" => STYLE,
                "script" => SCRIPT,
                "version" => &VERSION,
                "now" => &now,
                "main" => &main,
                _ => "",
            });
            rest = after;
        }
        html.push_str(rest);
        html
    })
}

/// Adds the headers that protect the page.
fn protected(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        // A proxy must not collect events.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(policy) = &*POLICY {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}
