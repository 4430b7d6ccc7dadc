//! Time that a rotation spends in the library. The bench of `claviger-otel` measures the same with
//! the feature `otel`.

use claviger_fixtures::{Figures, measure_own_work, median};
use claviger_testkit::Lab;
use tokio::runtime::Runtime;

pub(crate) fn measure(figures: &mut Figures, runtime: &Runtime) {
    let mut took = runtime.block_on(async { measure_own_work(&Lab::new().supervisor).await });
    let feature = if cfg!(feature = "otel") { "on" } else { "off" };
    figures.for_comparison(
        &format!("a rotation's own work, otel {feature}, µs, median"),
        median(&mut took),
    );
}
