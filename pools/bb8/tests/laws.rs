//! needs: postgresql, alone
//!
//! The laws on pools of bb8.

mod kind;

claviger_pool_laws::law_tests!(kind::Bb8);
