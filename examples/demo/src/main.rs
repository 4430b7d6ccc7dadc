//! A small service of 16 tasks queries a real PostgreSQL through a handle, while the password changes under it again and again.

mod options;
mod rotations;
mod scene;
mod screen;
mod service;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use claviger::{PgPools, Supervisor};
use claviger_file::FileLogin;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use options::Options;
use rotations::Rotations;
use scene::Scene;
use screen::Screen;
use service::Service;

/// What went wrong outside of the service.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Shorter than the half second by which the file lags behind an unannounced change: new log-ins are needed all the time, and in every such gap.
const SESSION_LIFE: Duration = Duration::from_millis(400);

/// A query that waited longer than this counts as not answered.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let screen = Arc::new(Screen::new());
    let options = match Options::from_arguments() {
        Ok(Some(options)) => options,
        Ok(None) => {
            screen.line(options::USAGE.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            screen.problem(&format!("{problem}\n{}", options::USAGE.trim_end()));
            return ExitCode::from(2);
        }
    };
    match run(&screen, &options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            screen.problem(&problem.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    screen.line("starting a PostgreSQL of our own …");
    let scene = Arc::new(Scene::start().await?);
    screen.line(&format!("PostgreSQL listens on port {}; the secret is in a file that the service reads", scene.port()));

    let supervisor = Supervisor::start();
    let mut events = supervisor.events();
    let login = supervisor.provide("orders-login", FileLogin::json(scene.secret_file())?).await?;
    let connect = PgConnectOptions::new_without_pgpass().host(scene.host()).port(scene.port()).database("orders");
    let pool = PgPoolOptions::new().max_connections(10).max_lifetime(SESSION_LIFE).acquire_timeout(Duration::from_secs(10));
    let db = supervisor.pool("orders", &login, PgPools::new(connect, pool)).await?;

    let service = Service::start(&db);
    let rotations = Rotations::start(Arc::clone(&scene), db.clone(), Arc::clone(screen), options.duration);
    let tally = {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.tick().await;
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let rotated = rotations.finished();
        tokio::pin!(rotated);
        loop {
            tokio::select! {
                tally = &mut rotated => break tally,
                Some(event) = events.next() => screen.event(&event),
                _ = second.tick() => screen.standing(&db, &service),
                _ = tokio::signal::ctrl_c() => rotations.stop(),
                _ = terminate.recv() => rotations.stop(),
            }
        }
    };
    let count = service.stop().await;
    let report = supervisor.shutdown(Duration::from_secs(10)).await;
    while let Some(event) = events.next().await {
        screen.event(&event);
    }
    if !report.clean {
        screen.line(&format!("the shutdown left something behind: {report:?}"));
    }
    for failure in count.failures.iter().take(5) {
        screen.line(&format!("failed: {failure}"));
    }
    for problem in &tally.problems {
        screen.line(&format!("problem: {problem}"));
    }
    screen.line(&format!(
        "{} announced and {} unannounced changes, {} adopted; each new log-in was proved before it served",
        tally.announced, tally.unannounced, tally.adopted
    ));
    if tally.announced == 0 || tally.unannounced == 0 {
        screen.line("problem: stopped before both kinds of change had occurred");
    }
    screen.line(&format!(
        "demo: {} queries, {} rotations, {} failed, longest wait {} ms",
        count.queries,
        tally.adopted,
        count.failures.len(),
        count.longest_wait.as_millis()
    ));
    let both = tally.announced > 0 && tally.unannounced > 0;
    let all = tally.adopted == tally.announced + tally.unannounced && tally.problems.is_empty();
    Ok(both && all && count.queries > 0 && count.failures.is_empty() && count.longest_wait < LONGEST_WAIT && report.clean)
}
