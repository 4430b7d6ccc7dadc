//! needs: postgresql, alone
//!
//! The laws on pools of diesel-async.

mod kind;

claviger_pool_laws::law_tests!(kind::Diesel);
