//! A rotation's own work. With the feature `otel` the bench of `claviger-otel` measures the same.

use claviger_fixtures::{Figures, median, own_work};
use claviger_testkit::Lab;
use tokio::runtime::Runtime;

pub(crate) fn measure(figures: &mut Figures, runtime: &Runtime) {
    let mut took = runtime.block_on(async { own_work(&Lab::new().supervisor).await });
    let feature = if cfg!(feature = "otel") { "on" } else { "off" };
    figures.for_comparison(
        &format!("a rotation's own work, otel {feature}, µs, median"),
        median(&mut took),
    );
}
