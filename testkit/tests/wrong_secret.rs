//! A secret of another type is a compile error that names both types.

#[test]
fn a_secret_of_another_type_is_a_compile_error() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
