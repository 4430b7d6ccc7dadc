//! A secret of another type is a compile error that names both types.

#[test]
fn a_pool_does_not_take_a_secret_of_the_wrong_kind() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
