//! Setter of a supervisor's meter.

use std::sync::Arc;

use claviger::SupervisorBuilder;
use opentelemetry::metrics::Meter;

/// Sets the meter of a supervisor.
///
/// The core's API has no type of OpenTelemetry, whose crates are not at 1.0. This trait has one.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use claviger::Supervisor;
/// use claviger_otel::{Telemetry, WithMeter};
///
/// let telemetry = Telemetry::start("orders")?;
/// let supervisor = Supervisor::builder().with_meter(telemetry.meter("claviger")).start()?;
/// # Ok(()) }
/// ```
pub trait WithMeter: Sized {
    /// Sets the meter. Default: the meter `claviger` of OpenTelemetry's global provider as it is
    /// when the supervisor starts.
    ///
    /// Two supervisors of one process that observe the same series overwrite each other. Give the
    /// second one a meter with a scope of its own, such as `provider.meter("claviger.billing")`,
    /// and other names of providers and pools. The scope is exported with every metric.
    #[must_use]
    fn with_meter(self, meter: Meter) -> Self;
}

impl WithMeter for SupervisorBuilder {
    fn with_meter(self, meter: Meter) -> Self {
        self.with_erased_meter(Arc::new(meter))
    }
}
