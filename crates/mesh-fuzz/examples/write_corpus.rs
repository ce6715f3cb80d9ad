//! Writes the seeds into `fuzz/corpus`: to be run when an encoding changed.
#![allow(clippy::expect_used)] // a developer's tool: it says what failed and ends

use std::path::Path;

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for seed in mesh_fuzz::seeds::seeds() {
        let folder = corpus.join(seed.target);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(folder.join(&seed.name), seed.bytes).expect("the file can be written");
    }
}
