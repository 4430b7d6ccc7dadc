//! needs: postgresql, alone
//!
//! The laws on pools of deadpool-postgres.

mod kind;

claviger_pool_laws::law_tests!(kind::Deadpool);
