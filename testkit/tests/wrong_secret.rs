//! A secret of the wrong kind does not compile, and the compiler says so in words.

#[test]
fn a_pool_does_not_take_a_secret_of_the_wrong_kind() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
