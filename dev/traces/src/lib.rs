//! Traces from Jaeger's API: parsing, an indented text form, and a check of their durations.

mod durations;
mod span;
mod tree;

pub use durations::check_handovers;
pub use span::{Span, spans};
pub use tree::{linked_to, pre_order, tree};
