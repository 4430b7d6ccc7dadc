//! needs: postgresql, quiet
//!
//! Settings, connections and errors of pools of diesel-async.

mod kind;

claviger_pool_laws::pool_tests!(kind::Diesel);

#[test]
fn try_get_works_outside_of_a_runtime() {
    claviger_pool_laws::tests::try_get_works_outside_of_a_runtime::<kind::Diesel>();
}
