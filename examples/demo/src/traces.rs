//! Traces of the rotations: sent to a Jaeger, and the last one is drawn.

mod collector;
mod jaeger;
mod waterfall;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::lease::Timestamp;
use claviger_otel::Telemetry;
use claviger_servers::Jaeger;
use tokio::time::{Instant, sleep};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::options::Traces;
use crate::screen::Screen;
use crate::script::{blocking, start_interruptible};
use crate::{Problem, with_causes};

/// The service name of the traces.
const SERVICE: &str = "claviger-demo";
/// Time until Jaeger returns received spans.
const TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Export of the traces.
pub(crate) struct TraceExport {
    telemetry: Telemetry,
    began: SystemTime,
    destination: Destination,
}

enum Destination {
    /// The demo's own Jaeger, without web pages.
    OwnJaeger(Jaeger),
    /// The user's collector.
    UserCollector(String),
}

impl TraceExport {
    /// Starts the export. Returns `None` if no traces are requested.
    pub(crate) async fn start(
        screen: &Arc<Screen>,
        requested: &Traces,
    ) -> Result<Option<Self>, Problem> {
        let (collector, destination) = match requested {
            Traces::None => return Ok(None),
            Traces::OwnJaeger => {
                let jaeger =
                    start_interruptible(screen, "a Jaeger", || Ok(Jaeger::start()?)).await?;
                screen.line(&format!(
                    "a Jaeger receives the traces; its API is at {}",
                    jaeger.query_address()
                ));
                (jaeger.otlp_endpoint(), Destination::OwnJaeger(jaeger))
            }
            Traces::Collector(url) => {
                let collector = collector::endpoint(url);
                screen.line(&format!(
                    "the traces are sent to {collector}, as service {SERVICE}"
                ));
                if let Err(problem) = collector::check(&collector).await {
                    screen.problem(&format!(
                        "{problem}; the demo continues without traces until it is available"
                    ));
                }
                (collector.clone(), Destination::UserCollector(collector))
            }
        };
        let telemetry = Telemetry::traces_to(SERVICE, &collector)?;
        tracing_subscriber::registry()
            .with(telemetry.layer())
            .try_init()?;
        Ok(Some(Self {
            telemetry,
            began: Timestamp::now().wall(),
            destination,
        }))
    }

    /// Draws the last rotation. Errors of the user's collector are printed and do not fail the
    /// demo.
    ///
    /// # Errors
    /// The demo's own Jaeger does not return the rotation.
    pub(crate) async fn draw(self, screen: &Screen) -> Result<(), Problem> {
        let Self {
            telemetry,
            began,
            destination,
        } = self;
        let sent = blocking(move || {
            let sent = telemetry.flush();
            telemetry.shutdown();
            Ok(sent?)
        })
        .await;
        match destination {
            Destination::OwnJaeger(jaeger) => {
                sent?;
                let rotation = last_rotation(&jaeger.query_address(), began).await?;
                screen.line(&format!(
                    "\nthe last rotation, from Jaeger (trace {}):\n",
                    rotation.trace
                ));
                show(screen, &rotation);
            }
            Destination::UserCollector(collector) => {
                if let Err(problem) = sent {
                    screen.problem(&format!(
                        "the traces could not be sent to {collector}: {}",
                        with_causes(&*problem)
                    ));
                } else if let Err(problem) = draw_from_user_jaeger(screen, &collector, began).await
                {
                    screen.line(&format!(
                        "\nthe traces were sent to {collector}; find service {SERVICE} in your \
                         trace viewer ({problem})"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn show(screen: &Screen, rotation: &jaeger::Rotation) {
    screen.picture(&waterfall::draw(rotation));
    for span in waterfall::fields(rotation) {
        screen.data("span", &span);
    }
}

/// Draws the last rotation from a Jaeger on the collector's host, if there is one.
async fn draw_from_user_jaeger(
    screen: &Screen,
    collector: &str,
    began: SystemTime,
) -> Result<(), Problem> {
    let query = collector::query_address(collector).ok_or("the address has no host")?;
    let rotation = last_rotation(&query, began).await?;
    screen.line(&format!(
        "\nthe last rotation, from your Jaeger (trace {}):\n",
        rotation.trace
    ));
    show(screen, &rotation);
    let page = format!("{query}/trace/{}", rotation.trace);
    let has_page = jaeger::has_page(&page).await;
    screen.line(&if has_page {
        format!("it is at {page}")
    } else {
        format!("(there is no Jaeger page at {query})")
    });
    Ok(())
}

/// Returns the last adopted rotation, once Jaeger has its handover and its drain.
async fn last_rotation(query: &str, since: SystemTime) -> Result<jaeger::Rotation, Problem> {
    let end = Instant::now() + TIMEOUT;
    loop {
        let found = jaeger::last_rotation(query, SERVICE, since).await;
        match found {
            Ok(Some(rotation)) if rotation.has_drain() || Instant::now() >= end => {
                return Ok(rotation);
            }
            Ok(None) if Instant::now() >= end => {
                return Err(format!("{query} has no rotation of the demo").into());
            }
            Err(problem) if Instant::now() >= end => return Err(problem),
            _ => sleep(PAUSE).await,
        }
    }
}
