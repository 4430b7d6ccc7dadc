//! The status page's responses: headers, escaping, the state that is shown, and streams.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "page/streams.rs"]
mod streams;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use claviger::Handle;
use claviger::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

struct Service {
    lab: Lab,
    provider: ScriptedProvider,
    database: ScriptedPools,
    pool: Handle<ScriptedPools>,
    router: Router,
}

impl Service {
    async fn start() -> Self {
        let lab = Lab::new();
        let provider = ScriptedProvider::new().with_lifetime(Duration::from_secs(900));
        let database = ScriptedPools::new(4);
        let credentials = lab
            .supervisor
            .add_provider("login", provider.clone())
            .await
            .expect("it starts");
        let pool = lab
            .supervisor
            .add_pool(HOSTILE, &credentials, database.clone())
            .await
            .expect("it is verified");
        let router = claviger_axum::page(&lab.supervisor);
        Self {
            lab,
            provider,
            database,
            pool,
            router,
        }
    }

    async fn get(&self, path: &str) -> Response {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = self.router.clone().oneshot(request).await;
        response.expect("a response")
    }

    async fn html(&self) -> String {
        text(self.get("/").await).await
    }

    /// Waits until the section of problems contains a text.
    async fn until_problems_contain(&self, text: &str) -> String {
        let wait = async {
            loop {
                let html = self.html().await;
                if problems(&html).contains(text) {
                    return html;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let shown = tokio::time::timeout(Duration::from_secs(60), wait).await;
        shown.expect(text)
    }
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), 1 << 20).await;
    String::from_utf8(body.expect("a body").to_vec()).expect("text")
}

/// Returns the text between two others.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).expect("the begin");
    rest.split_once(after).expect("the end").0
}

fn problems(html: &str) -> &str {
    between(html, "id=\"problems\"", "</section>")
}

#[tokio::test(start_paused = true)]
async fn the_policy_allows_the_page_s_own_style_and_script_alone() {
    let service = Service::start().await;
    let response = service.get("/").await;
    assert_eq!(response.status(), StatusCode::OK);
    let header = |name: &str| {
        let value = response.headers().get(name).expect(name);
        value.to_str().expect("text").to_owned()
    };
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("x-frame-options"), "DENY");
    let policy = header("content-security-policy");
    let html = text(response).await;
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)));
    let directives: Vec<_> = policy.split("; ").collect();
    for directive in [
        "default-src 'none'".to_owned(),
        format!(
            "script-src {}",
            hash(between(&html, "<script>", "</script>"))
        ),
        format!("style-src {}", hash(between(&html, "<style>", "</style>"))),
        "connect-src 'self'".to_owned(),
        "base-uri 'none'".to_owned(),
        "form-action 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
        "require-trusted-types-for 'script'".to_owned(),
    ] {
        assert!(directives.contains(&&*directive), "{directive}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");

    // No other file, and no inline handler or style.
    for foreign in [
        "src=\"",
        "<link rel=\"stylesheet",
        "@import",
        "url(",
        " style=",
        " onclick=",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    let links = html.split("href=\"").skip(1);
    for link in links.filter_map(|rest| rest.split('"').next()) {
        let is_known = ["#", "data:image/svg+xml,", "https://github.com/"]
            .iter()
            .any(|known| link.starts_with(known));
        assert!(is_known, "{link}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_javascript_the_page_shows_the_state_and_names_stay_text() {
    let service = Service::start().await;
    service.provider.fail_next(
        1,
        ProviderError::new(ProviderErrorKind::Throttled, "rate <b>exceeded</b>"),
    );
    let _ = service.lab.supervisor.rotate_now("login").await;
    let html = service.html().await;
    assert!(html.contains("<noscript><meta http-equiv=\"refresh\""));
    let main = between(&html, "<main id=\"main\">", "</main>");
    assert!(!main.contains("<img") && !main.contains("<b>"), "{main}");
    let name = "&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;";
    for shown in [
        "Ready",
        name,
        "15 min 00 s",
        "0<small> of 4</small>",
        "rate &lt;b&gt;exceeded&lt;/b&gt;",
        "throttled",
        "adopted",
    ] {
        assert!(main.contains(shown), "{shown}: {main}");
    }
    assert!(!html.contains("password-1"), "no secret");
    assert!(!html.contains("{{"), "every marker is filled");
}

// With real time, because the page shows times of the wall clock, which cannot be paused.
#[tokio::test]
async fn a_problem_is_shown_with_the_manual_s_advice_and_then_as_an_earlier_one() {
    let service = Service::start().await;
    service.database.accept_only(["nothing"]);
    let error = ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed");
    service.pool.rejected(1, &error.with_code("28P01"));
    let action = ConnectErrorKind::Rejected.advice().action;
    let action = action.split_at(1).1.replace('\'', "&#39;");
    let html = service.until_problems_contain(&action).await;
    let problems = problems(&html);
    for shown in [
        "Database rejects the credential",
        "docs/operating.md#errors-of-a-database",
        "Pool &lt;img",
    ] {
        assert!(problems.contains(shown), "{shown}: {problems}");
    }
    assert!(html.contains("Not ready") && html.contains("operating.md#the-first-minute"));

    service.database.accept_only(["password-1"]);
    let html = service.until_problems_contain("None.").await;
    assert!(html.contains("earlier error") && html.contains(&action));
}

#[tokio::test(start_paused = true)]
async fn a_held_provider_and_a_pool_that_was_rolled_back_are_shown() {
    let service = Service::start().await;
    let supervisor = &service.lab.supervisor;
    service.provider.rotate();
    // A connection in use keeps the previous lease.
    let busy = service.pool.get().await.expect("a connection");
    supervisor.rotate_now("login").await.expect("it is adopted");
    supervisor.roll_back(HOSTILE).await.expect("it is possible");
    let html = service.html().await;
    for shown in [
        "Ready",
        "provider &quot;login&quot; is held since ",
        "docs/operating.md#provider-held",
        ">held</span>",
        ">rolled back</span>",
        "by a rollback",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    drop(busy);
    supervisor.resume("login").expect("it is known");
    let html = service.html().await;
    assert!(!html.contains("is held since"), "{html}");
}

#[test]
fn the_page_may_be_created_outside_of_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let lab = runtime.block_on(async { Lab::new() });
    let router: Router = claviger_axum::page(&lab.supervisor);
    runtime.block_on(async {
        let credentials = ScriptedProvider::new();
        let credentials = lab.supervisor.add_provider("login", credentials).await;
        credentials.expect("it starts");
        let request = Request::get("/").body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("a response");
        let html = text(response).await;
        assert!(
            html.contains("at the start"),
            "the rotation is noted: {html}"
        );
    });
}
