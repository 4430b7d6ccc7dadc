//! needs: postgresql, quiet
//!
//! Pools of bb8 pass the conformance kit.

mod kind;

claviger_pool_laws::conformance_tests!(kind::Bb8);
