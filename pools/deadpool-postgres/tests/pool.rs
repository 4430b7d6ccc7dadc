//! needs: postgresql, quiet
//!
//! Settings, connections and errors of pools of deadpool-postgres.

mod kind;

claviger_pool_laws::pool_tests!(kind::Deadpool);

#[test]
fn try_get_works_outside_of_a_runtime() {
    claviger_pool_laws::tests::try_get_works_outside_of_a_runtime::<kind::Deadpool>();
}
