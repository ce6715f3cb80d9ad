//! The program `blvm-mesh`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    blvm_mesh::cli::main()
}
