//! Traces as Jaeger's API tells them: read, written as an indented text, and checked for whether
//! they add up.

mod adds_up;
mod span;
mod tree;

pub use adds_up::handovers_add_up;
pub use span::{Span, spans};
pub use tree::{in_order, linked_to, tree};
