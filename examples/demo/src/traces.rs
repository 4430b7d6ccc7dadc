//! The rotations as traces: sent to a Jaeger, and the last one read back from it and drawn.

mod collector;
mod jaeger;
mod waterfall;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::Timestamp;
use claviger_otel::Telemetry;
use claviger_servers::Jaeger;
use tokio::time::{Instant, sleep};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::options::Traces;
use crate::screen::Screen;
use crate::script::{blocking, start_interruptible};
use crate::{Problem, with_causes};

/// The name under which the service is found.
const SERVICE: &str = "claviger-demo";
/// How long Jaeger may take to tell what it was sent.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// The traces are on their way to a Jaeger.
pub(crate) struct Watch {
    telemetry: Telemetry,
    began: SystemTime,
    at: At,
}

enum At {
    /// One of our own, which has no pages.
    Own(Jaeger),
    /// The user's, where its spans go.
    Theirs(String),
}

impl Watch {
    /// Nothing if no traces are wanted.
    pub(crate) async fn start(
        screen: &Arc<Screen>,
        wanted: &Traces,
    ) -> Result<Option<Self>, Problem> {
        let (collector, at) = match wanted {
            Traces::Nowhere => return Ok(None),
            Traces::OwnJaeger => {
                let jaeger = start_interruptible(|| Ok(Jaeger::start()?)).await?;
                screen.line(&format!(
                    "a Jaeger of our own takes the traces; its API is at {}",
                    jaeger.query_address()
                ));
                (jaeger.otlp_endpoint(), At::Own(jaeger))
            }
            Traces::Collector(url) => {
                let collector = collector::endpoint(url);
                screen.line(&format!(
                    "the traces go to {collector}, as service {SERVICE}"
                ));
                if let Err(problem) = collector::try_it(&collector).await {
                    screen.problem(&format!(
                        "{problem}; the demo goes on, and its traces are lost while that stays so"
                    ));
                }
                (collector.clone(), At::Theirs(collector))
            }
        };
        let telemetry = Telemetry::traces_to(SERVICE, &collector)?;
        tracing_subscriber::registry()
            .with(telemetry.layer())
            .try_init()?;
        Ok(Some(Self {
            telemetry,
            began: Timestamp::now().wall(),
            at,
        }))
    }

    /// Draws the last rotation. What the user's own collector or Jaeger does not do is told, and is
    /// no failure of the demo.
    ///
    /// # Errors
    /// When a Jaeger of our own does not tell it.
    pub(crate) async fn show(self, screen: &Screen) -> Result<(), Problem> {
        let Self {
            telemetry,
            began,
            at,
        } = self;
        let sent = blocking(move || {
            let sent = telemetry.flush();
            telemetry.shutdown();
            Ok(sent?)
        })
        .await;
        match at {
            At::Own(jaeger) => {
                sent?;
                let rotation = last_rotation(&jaeger.query_address(), began).await?;
                screen.line(&format!(
                    "\nthe last rotation, as Jaeger tells it (trace {}):\n",
                    rotation.trace
                ));
                screen.line(&waterfall::of(&rotation));
            }
            At::Theirs(collector) => {
                if let Err(problem) = sent {
                    screen.problem(&format!(
                        "the traces could not be sent to {collector}: {}",
                        with_causes(&*problem)
                    ));
                } else if let Err(problem) = show_theirs(screen, &collector, began).await {
                    screen.line(&format!(
                        "\nthe traces were sent to {collector}; look for service {SERVICE} where you read them ({problem})"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// From a Jaeger on the collector's host, if there is one.
async fn show_theirs(screen: &Screen, collector: &str, began: SystemTime) -> Result<(), Problem> {
    let query = collector::query_address(collector).ok_or("the address has no host")?;
    let rotation = last_rotation(&query, began).await?;
    screen.line(&format!(
        "\nthe last rotation, as your Jaeger tells it (trace {}):\n",
        rotation.trace
    ));
    screen.line(&waterfall::of(&rotation));
    let page = format!("{query}/trace/{}", rotation.trace);
    let there = jaeger::has_page(&page).await;
    screen.line(&if there {
        format!("see it at {page}")
    } else {
        format!("(no page of a Jaeger answers at {query})")
    });
    Ok(())
}

/// The last rotation that was adopted, once Jaeger tells it with its handover and the drain that
/// follows.
async fn last_rotation(query: &str, since: SystemTime) -> Result<jaeger::Rotation, Problem> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = jaeger::last_rotation(query, SERVICE, since).await;
        match found {
            Ok(Some(rotation)) if rotation.has_drain() || Instant::now() >= end => {
                return Ok(rotation);
            }
            Ok(None) if Instant::now() >= end => {
                return Err(format!("{query} has no rotation of ours").into());
            }
            Err(problem) if Instant::now() >= end => return Err(problem),
            _ => sleep(PAUSE).await,
        }
    }
}
