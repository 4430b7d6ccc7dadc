//! needs: postgresql, quiet
//!
//! Pools of deadpool pass the conformance kit.

mod kind;

claviger_pool_laws::conformance_tests!(kind::Deadpool);
