//! What telemetry costs: a query and a rotation with nobody listening, with an exporter, and with one whose collector is down.
//!
//! Without the feature `otel` the same query is measured by the core's own bench (`cargo xtask bench query`).

#![expect(clippy::expect_used, reason = "a bench that cannot measure says so by panicking")]
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::time::Duration;

use claviger::Handle;
use claviger_otel::Telemetry;
use claviger_servers::Jaeger;
use claviger_stage::{Figures, Stage, median};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use sqlx::PgPool;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;

const PAIRS: usize = 40;
const QUERIES: u32 = 200;
const ROTATIONS: u32 = 20;
/// Nobody listens on it: the discard service's.
const DOWN: &str = "http://127.0.0.1:9";

/// Who listens.
struct Audience {
    name: &'static str,
    telemetry: Option<Telemetry>,
}

impl Audience {
    /// For this thread, on which the runtime runs everything.
    fn listen(&self) -> Option<DefaultGuard> {
        let telemetry = self.telemetry.as_ref()?;
        Some(tracing::subscriber::set_default(tracing_subscriber::registry().with(telemetry.layer())))
    }
}

fn main() {
    // A test run of all targets only wants to see that this starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let jaeger = Jaeger::start().expect("Jaeger starts");
    let exporter = |collector: &str| Some(Telemetry::traces_to("bench", collector).expect("it exports"));
    let audiences = [
        Audience { name: "nobody listens", telemetry: None },
        Audience { name: "exported", telemetry: exporter(&jaeger.otlp_endpoint()) },
        Audience { name: "collector down", telemetry: exporter(DOWN) },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut figures = Figures::default();
    queries(&mut figures, &runtime, &audiences);
    rotations(&mut figures, &runtime, &audiences);
    println!("\n{figures}");
}

/// Seconds of one query, each in a span of its caller's, as requests have one.
async fn time(query: &impl AsyncFn()) -> f64 {
    let began = Instant::now();
    for _ in 0..QUERIES {
        query().instrument(tracing::info_span!("request")).await;
    }
    began.elapsed().as_secs_f64() / f64::from(QUERIES)
}

/// Beside a raw pool under the same audience: what is left is ours.
fn queries(figures: &mut Figures, runtime: &Runtime, audiences: &[Audience]) {
    let (stage, db): (Stage, Handle<PgPool>) = runtime.block_on(async {
        let stage = Stage::new().await;
        let db = stage.pool(4).await;
        (stage, db)
    });
    let plain = runtime.block_on(async { stage.plain_pool("password-1", stage.pool_options(4)) });
    let through_the_handle = async || {
        sqlx::query("SELECT 1").execute(&db).await.expect("it answers");
    };
    let raw = async || {
        sqlx::query("SELECT 1").execute(&plain).await.expect("it answers");
    };
    for audience in audiences {
        let _listening = audience.listen();
        let mut ratios = runtime.block_on(async {
            let _ = (time(&through_the_handle).await, time(&raw).await);
            let mut ratios = Vec::new();
            for pair in 0..PAIRS {
                // In turn, so that neither always comes first.
                let (ours, theirs) = if pair % 2 == 0 {
                    let ours = time(&through_the_handle).await;
                    (ours, time(&raw).await)
                } else {
                    let theirs = time(&raw).await;
                    (time(&through_the_handle).await, theirs)
                };
                ratios.push(ours / theirs);
            }
            ratios
        });
        let title = format!("query through &Handle / raw &PgPool, {}, median of alternating pairs", audience.name);
        figures.at_most(&title, median(&mut ratios), 1.01);
    }
    runtime.block_on(stage.supervisor.shutdown(Duration::from_secs(5)));
}

/// With a store and a database that answer at once: what is left is the library's own work.
fn rotations(figures: &mut Figures, runtime: &Runtime, audiences: &[Audience]) {
    for audience in audiences {
        let _listening = audience.listen();
        let mut took = runtime.block_on(async {
            let lab = Lab::new();
            let store = ScriptedProvider::new();
            let login = lab.supervisor.provide("login", store.clone()).await.expect("a lease");
            let _pool = lab.supervisor.pool("orders", &login, ScriptedPools::new(10)).await.expect("proved");
            let mut took = Vec::new();
            for _ in 0..ROTATIONS {
                // Requests are answered once a second; the report's time begins with the fetch.
                tokio::time::sleep(Duration::from_secs(1)).await;
                store.rotate();
                let report = lab.supervisor.rotate_now("login").await.expect("it rotates");
                took.push(report.took.as_secs_f64() * 1e6);
            }
            lab.supervisor.shutdown(Duration::from_secs(5)).await;
            took
        });
        figures.beside(&format!("a rotation's own work, {}, µs, median", audience.name), median(&mut took));
    }
}
