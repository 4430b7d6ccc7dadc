//! needs: postgresql, quiet
//!
//! Pools of diesel-async pass the conformance kit.

mod kind;

claviger_pool_laws::conformance_tests!(kind::Diesel);
