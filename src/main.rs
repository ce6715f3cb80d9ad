//! The program `blvm-mesh`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    blvm_mesh::host::main().unwrap_or_else(blvm_mesh::cli::main)
}
