# One-word tasks: `just` lists them, `just NAME` runs one. Each is a command of `cargo xtask`.

default:
    @just --list --unsorted

# A service queries a real PostgreSQL while its password changes again and again.
demo *ARGUMENTS:
    cargo xtask demo {{ ARGUMENTS }}

# Every test that this machine can run.
test *ARGUMENTS:
    cargo xtask test {{ ARGUMENTS }}

# The unit tests, which need no server.
unit:
    cargo test --workspace --lib

# Formats the code, and checks it as CI does.
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# The documentation of all crates, in the browser.
docs:
    cargo doc --workspace --no-deps --locked --open

# Benchmarks on a real PostgreSQL.
bench *ARGUMENTS:
    cargo xtask bench {{ ARGUMENTS }}

# The pictures of the documentation.
figures *ARGUMENTS:
    cargo xtask figures {{ ARGUMENTS }}

# The state machines against simulated backends, databases and clocks.
simulate *ARGUMENTS:
    cargo xtask simulate {{ ARGUMENTS }}

# The servers that tests need.
install *SERVERS:
    cargo xtask install {{ SERVERS }}

# All checks that a change must pass.
ci:
    .ci/run
