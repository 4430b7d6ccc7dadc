//! needs: postgresql, quiet
//!
//! Settings, connections and errors of pools of bb8.

mod kind;

claviger_pool_laws::pool_tests!(kind::Bb8);
