//! Every committed input is played: what fuzzing once found stays mended, on any toolchain and without a fuzzer.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test says no

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_fuzz::{TARGETS, seeds};

/// Room for what fuzzing finds; a corpus is committed to be played in seconds.
const MAX_CORPUS_BYTES: u64 = 1024 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn no_committed_input_breaks_a_promise() {
    let mut bytes = 0;
    for target in TARGETS {
        for file in files(&fuzz().join("corpus").join(target.name)) {
            let input = std::fs::read(&file).unwrap();
            bytes += input.len() as u64;
            let played = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(played.is_ok(), "{} breaks {}", file.display(), target.name);
        }
    }
    assert!(bytes <= MAX_CORPUS_BYTES, "{bytes} bytes are too much to commit");
}

#[test]
fn committed_seeds_are_what_the_wire_looks_like_now() {
    // A copy of a file that people edit may grow old; nothing but its text is in it.
    let encoded = seeds::seeds()
        .into_iter()
        .filter(|seed| !seed.name.starts_with("copy-of-"));
    for seed in encoded {
        let file = fuzz().join("corpus").join(seed.target).join(&seed.name);
        let committed = std::fs::read(&file).unwrap_or_default();
        assert!(
            committed == seed.bytes,
            "{} is missing or of an earlier encoding: run `cargo run -p mesh-fuzz --example write_corpus`",
            file.display()
        );
    }
}

#[test]
fn every_target_has_a_binary_and_every_binary_a_target() {
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let binaries: BTreeSet<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
        .filter(|target| cfg!(feature = "ctv") || *target != "covenant")
        .collect();
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(binaries, targets);
    for target in targets {
        let source = std::fs::read_to_string(fuzz().join(format!("targets/{target}.rs"))).unwrap();
        assert!(
            source.contains(&format!("::{target}(data)")),
            "{target}.rs runs something else"
        );
    }
}
