# The everyday commands. `just` lists them.

# The list below.
default:
    @"{{just_executable()}}" --list

# Run the mesh: `just run --help`.
run *args:
    cargo run --locked -- {{args}}

# Every test; further arguments go to cargo: `just test -p mesh-core`.
test *args="--workspace":
    cargo test --locked {{args}}

# Formatting and lints, warnings denied.
lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings

# The reference, without the dependencies' pages.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# Benchmarks; further arguments go to cargo: `just bench --bench NAME`.
bench *args:
    cargo bench --locked {{args}}

# Whole networks in virtual time: `just sim scenarios/ci/*.toml`.
sim *args:
    cargo run --locked --release -p mesh-sim --example scenario -- {{args}}

# Every real and made-up network under three seeds; the figures of docs/ROUTING.md. Takes half an hour.
sim-matrix:
    cargo run --locked --release -p mesh-sim --example scenario -- --markdown scenarios/matrix/*.toml scenarios/barabasi-albert-10000.toml

# Licences, banned crates and sources of the dependencies. Needs cargo-deny.
deny:
    cargo deny --locked check bans licenses sources

# What a change must pass.
ci: lint test docs deny
