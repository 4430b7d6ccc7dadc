//! Changes the password again and again, in turn announced and unannounced, and sees that each change is adopted.

use std::sync::Arc;
use std::time::Duration;

use claviger::Handle;
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::scene::Scene;
use crate::screen::Screen;

/// From one change's adoption to the next change.
const PAUSE: Duration = Duration::from_millis(1_200);
/// How long the file lags behind the database when nobody announced the change.
const LAG: Duration = Duration::from_millis(500);
/// How long a change may take to be adopted.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) announced: u32,
    pub(crate) unannounced: u32,
    pub(crate) adopted: u32,
    pub(crate) problems: Vec<String>,
}

pub(crate) struct Rotations {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<Tally>>>,
}

impl Rotations {
    pub(crate) fn start(scene: Arc<Scene>, db: Handle<PgPool>, screen: Arc<Screen>, duration: Duration) -> Self {
        let stop = watch::Sender::new(false);
        let stopped = stop.subscribe();
        let task = tokio::spawn(rotate(scene, db, screen, Instant::now() + duration, stopped));
        Self { stop, task: Mutex::new(Some(task)) }
    }

    /// The change under way is the last one.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What was changed and adopted, when the time is over.
    pub(crate) async fn finished(&self) -> Tally {
        let task = self.task.lock().await.take();
        let tally = match task {
            Some(task) => task.await.ok(),
            None => None,
        };
        tally.unwrap_or_else(|| Tally { problems: vec!["the rotations panicked".to_owned()], ..Tally::default() })
    }
}

async fn rotate(scene: Arc<Scene>, db: Handle<PgPool>, screen: Arc<Screen>, end: Instant, mut stop: watch::Receiver<bool>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let pause = sleep(PAUSE);
        tokio::select! {
            () = pause => {}
            _ = stop.wait_for(|stop| *stop) => return tally,
        }
        // A change that could not be adopted before the end is not begun; both kinds happen at least once.
        if Instant::now() + LAG >= end && tally.announced > 0 && tally.unannounced > 0 {
            break;
        }
        let announced = tally.announced == tally.unannounced;
        let number = tally.announced + tally.unannounced + 1;
        screen.change(number, announced);
        let password = format!("password-{number}");
        let before = revision(&db);
        let changed = change(&scene, announced, password.clone()).await;
        *(if announced { &mut tally.announced } else { &mut tally.unannounced }) += 1;
        if let Err(problem) = changed {
            tally.problems.push(problem);
            return tally;
        }
        let adopted = async {
            loop {
                let changed = db.changed();
                if revision(&db) != before {
                    break;
                }
                changed.await;
            }
        };
        match timeout(PATIENCE, adopted).await {
            Ok(()) => tally.adopted += 1,
            Err(_) => {
                tally.problems.push(format!("change {password} was not adopted within {PATIENCE:?}"));
                return tally;
            }
        }
    }
    sleep(end.saturating_duration_since(Instant::now())).await;
    tally
}

/// What is served, by its digest.
fn revision(db: &Handle<PgPool>) -> Option<String> {
    db.status().and_then(|status| status.revision)
}

async fn change(scene: &Arc<Scene>, announced: bool, password: String) -> Result<(), String> {
    let (first, second) = (Arc::clone(scene), Arc::clone(scene));
    let (before, after) = (password.clone(), password);
    let off_the_async_threads = |work: Box<dyn FnOnce() -> Result<(), String> + Send>| async move {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("a change panicked".to_owned()))
    };
    if announced {
        off_the_async_threads(Box::new(move || first.write_secret(&before).map_err(|error| error.to_string()))).await?;
        off_the_async_threads(Box::new(move || second.alter_role(&after).map_err(|error| error.to_string()))).await
    } else {
        off_the_async_threads(Box::new(move || first.alter_role(&before).map_err(|error| error.to_string()))).await?;
        sleep(LAG).await;
        off_the_async_threads(Box::new(move || second.write_secret(&after).map_err(|error| error.to_string()))).await
    }
}
