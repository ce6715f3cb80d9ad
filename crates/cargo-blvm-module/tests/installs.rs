//! The program as an operator runs it, with crates that cargo really builds. No network: the registry is a folder.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Machine, sha256};
use serde_json::Value;

#[test]
fn a_module_is_built_from_a_directory_and_is_what_the_node_looks_for() {
    let machine = Machine::new();
    let source = machine.source("1.0.0", "one");
    let said = machine.ok(&["install", "--path", source.to_str().unwrap(), "--profile", "dev"]);
    assert!(said.contains("blvm-fixture 1.0.0 is installed"), "{said}");
    assert!(said.contains("loadmodule"), "{said}");
    assert_eq!(machine.runs(), "one");

    // What the node itself demands: required keys, the capability before any table, and the hash it checks.
    let manifest: toml::Table = toml::from_str(&machine.installed("module.toml")).unwrap();
    let entry_point = machine
        .modules()
        .join("blvm-fixture")
        .join(manifest["entry_point"].as_str().unwrap());
    assert_ne!(entry_point.metadata().unwrap().permissions().mode() & 0o111, 0);
    assert_eq!(manifest["capabilities"].as_array().unwrap().len(), 2);
    assert_eq!(manifest["binary"]["hash"].as_str().unwrap(), sha256(&entry_point));
    machine.ok(&["verify"]);
}

#[test]
fn nothing_is_installed_over_what_is_there_and_an_upgrade_keeps_what_is_the_operators() {
    let machine = Machine::new();
    let source = machine.source("1.0.0", "one");
    let install = ["install", "--path", source.to_str().unwrap(), "--profile", "dev"];
    machine.ok(&install);
    machine.write("modules/blvm-fixture/config.toml", "mode = \"mine\"\n");
    machine.write("data/blvm-fixture/books", "precious");
    machine.write("data/blvm-fixture/config.toml", "mine too");

    let said = machine.refused(&install, 3);
    assert!(said.contains("upgrade blvm-fixture"), "{said}");

    machine.source("1.1.0", "two");
    let said = machine.ok(&["upgrade", "blvm-fixture"]);
    assert!(
        said.contains("1.0.0 -> 1.1.0") && said.contains("reloadmodule"),
        "{said}"
    );
    assert_eq!(machine.runs(), "two");
    assert_eq!(machine.installed("config.toml"), "mode = \"mine\"\n");
    assert_eq!(machine.read("data/blvm-fixture/books"), "precious");
    assert_eq!(machine.read("data/blvm-fixture/config.toml"), "mine too");

    let said = machine.ok(&["rollback", "blvm-fixture"]);
    assert!(said.contains("1.1.0 -> 1.0.0"), "{said}");
    assert_eq!(machine.runs(), "one");
}

#[test]
fn an_older_version_is_taken_only_if_that_is_said() {
    let machine = Machine::new();
    let source = machine.source("2.0.0", "new");
    machine.ok(&["install", "--path", source.to_str().unwrap(), "--profile", "dev"]);
    machine.source("1.9.9", "old");
    let said = machine.refused(&["upgrade", "blvm-fixture"], 3);
    assert!(
        said.contains("--allow-older") && machine.runs() == "new",
        "{said}"
    );
    machine.ok(&["upgrade", "blvm-fixture", "--allow-older"]);
    assert_eq!(machine.runs(), "old");
}

#[test]
fn a_build_that_fails_leaves_the_module_that_was_there() {
    let machine = Machine::new();
    let source = machine.source("1.0.0", "one");
    machine.ok(&["install", "--path", source.to_str().unwrap(), "--profile", "dev"]);
    machine.source("1.1.0", "two");
    fs::write(source.join("src/main.rs"), "fn main() { this is no Rust }").unwrap();
    machine.refused(&["upgrade", "blvm-fixture"], 4);
    assert_eq!(machine.runs(), "one");
    machine.ok(&["verify"]);
}

#[test]
fn manifest_and_program_are_of_one_version_or_nothing_is_installed() {
    let machine = Machine::new();
    let source = machine.source("1.0.0", "one");
    let manifest = fs::read_to_string(source.join("module.toml")).unwrap();
    fs::write(source.join("module.toml"), manifest.replace("1.0.0", "1.0.1")).unwrap();
    let said = machine.refused(
        &["install", "--path", source.to_str().unwrap(), "--profile", "dev"],
        3,
    );
    assert!(said.contains("1.0.1") && said.contains("1.0.0"), "{said}");
    assert!(!machine.modules().join("blvm-fixture").exists());
}

#[test]
fn a_misplaced_capability_is_refused_before_anything_is_built() {
    let machine = Machine::new();
    let source = machine.source("1.0.0", "one");
    let manifest = fs::read_to_string(source.join("module.toml")).unwrap();
    fs::write(
        source.join("module.toml"),
        manifest.replace("capabilities", "[package]\ncapabilities"),
    )
    .unwrap();
    let said = machine.refused(&["install", "--path", source.to_str().unwrap()], 3);
    assert!(said.contains("capabilities stands under [package]"), "{said}");
    assert!(!source.join("target").exists(), "cargo was not run");
}

#[test]
fn an_archive_needs_its_checksum_and_the_right_one() {
    let machine = Machine::new();
    let archive = machine.archive("1.0.0", "#!/bin/sh\nprintf one\n");
    let path = archive.to_str().unwrap();
    let said = machine.refused(&["install", "--archive", path], 3);
    assert!(said.contains("--sha256"), "{said}");
    let wrong = "0".repeat(64);
    let said = machine.refused(&["install", "--archive", path, "--sha256", &wrong], 3);
    assert!(said.contains(&wrong) && said.contains("not opened"), "{said}");
    assert!(!machine.modules().join("blvm-fixture").exists());

    machine.ok(&[
        "install",
        "blvm-fixture",
        "--archive",
        path,
        "--sha256",
        &sha256(&archive),
    ]);
    assert_eq!(machine.runs(), "one");

    let newer = machine.archive("1.1.0", "#!/bin/sh\nprintf two\n");
    let sums = machine.write("sums.sha256", &format!("{}  release.tar.gz\n", sha256(&newer)));
    let said = machine.refused(&["upgrade", "blvm-fixture"], 3);
    assert!(
        said.contains("--archive"),
        "an archive does not renew itself: {said}"
    );
    machine.ok(&[
        "upgrade",
        "blvm-fixture",
        "--archive",
        path,
        "--sha256",
        sums.to_str().unwrap(),
    ]);
    assert_eq!(machine.runs(), "two");
}

#[test]
fn a_package_of_another_module_is_not_installed_under_this_name() {
    let machine = Machine::new();
    let archive = machine.archive("1.0.0", "#!/bin/sh\n");
    let arguments = [
        "install",
        "blvm-mesh",
        "--archive",
        archive.to_str().unwrap(),
        "--sha256",
        &sha256(&archive),
    ];
    let said = machine.refused(&arguments, 3);
    assert!(
        said.contains("blvm-fixture") && said.contains("blvm-mesh"),
        "{said}"
    );
    assert!(
        !machine.modules().join("blvm-fixture").exists() && !machine.modules().join("blvm-mesh").exists()
    );
}

#[test]
fn a_crate_of_the_registry_is_installed_with_the_manifest_of_its_version() {
    let machine = Machine::new();
    machine.publish("1.0.0", "one");
    machine.publish("1.1.0", "two");
    machine.ok(&[
        "install",
        "blvm-fixture",
        "--version",
        "=1.0.0",
        "--profile",
        "dev",
    ]);
    assert_eq!(machine.runs(), "one");
    assert!(machine.installed("module.toml").contains("version = \"1.0.0\""));
    machine.ok(&["upgrade", "blvm-fixture"]);
    assert_eq!(machine.runs(), "two");
    assert!(machine.installed("module.toml").contains("version = \"1.1.0\""));
    let listed = machine.ok(&["list"]);
    assert!(
        listed.contains("1.1.0") && listed.contains("registry"),
        "{listed}"
    );
}

#[test]
fn a_crate_that_is_no_module_is_refused() {
    let machine = Machine::new();
    let source = machine.source("1.0.0", "one");
    fs::remove_file(source.join("module.toml")).unwrap();
    machine.publish_source("1.0.0");
    let said = machine.refused(&["install", "blvm-fixture", "--profile", "dev"], 3);
    assert!(said.contains("somebody else's"), "{said}");
    let said = machine.refused(&["install", "blvm-absent"], 4);
    assert!(said.contains("could not find"), "{said}");
}

#[test]
fn verify_finds_a_program_that_was_changed_removed_or_may_not_run() {
    let machine = Machine::new();
    let archive = machine.archive("1.0.0", "#!/bin/sh\nprintf one\n");
    machine.ok(&[
        "install",
        "--archive",
        archive.to_str().unwrap(),
        "--sha256",
        &sha256(&archive),
    ]);
    let document: Value = serde_json::from_str(&machine.ok(&["verify", "--json"])).unwrap();
    let module = &document["modules"][0];
    assert_eq!(
        (&module["name"], &module["whole"]),
        (&Value::from("blvm-fixture"), &Value::from(true))
    );
    let program = module["program"].as_str().unwrap();
    assert_eq!(module["sha256"].as_str().unwrap(), sha256(program.as_ref()));

    fs::write(program, "#!/bin/sh\nprintf evil\n").unwrap();
    let said = machine.refused(&["verify", "blvm-fixture"], 1);
    assert!(said.contains("changed after it was installed"), "{said}");
    fs::set_permissions(program, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(machine.refused(&["verify"], 1).contains("may be executed"));
    fs::remove_file(program).unwrap();
    let said = machine.refused(&["verify", "--json"], 1);
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap()["modules"][0]["whole"],
        false
    );
    machine.refused(&["verify", "absent"], 3);
}

#[test]
fn verify_judges_a_module_that_was_put_there_by_hand() {
    let machine = Machine::new();
    let dir = machine.modules().join("by-hand");
    fs::create_dir_all(dir.join("target/release")).unwrap();
    fs::write(
        dir.join("module.toml"),
        "name = \"by-hand\"\nversion = \"0.1\"\nentry_point = \"x\"\n",
    )
    .unwrap();
    assert!(machine.refused(&["verify"], 1).contains("may be executed"));
    fs::write(dir.join("target/release/x"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("target/release/x"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = machine.ok(&["verify"]);
    assert!(
        said.contains("no SHA-256") && said.contains("patch number"),
        "{said}"
    );
    machine.refused(&["verify", "--strict"], 1);
}

#[test]
fn removing_a_module_leaves_its_data_and_configuration() {
    let machine = Machine::new();
    let archive = machine.archive("1.0.0", "#!/bin/sh\n");
    machine.ok(&[
        "install",
        "--archive",
        archive.to_str().unwrap(),
        "--sha256",
        &sha256(&archive),
    ]);
    machine.write("modules/blvm-fixture/config.toml", "mine");
    machine.write("data/blvm-fixture/books", "precious");
    let said = machine.ok(&["remove", "blvm-fixture"]);
    assert!(
        said.contains("config.toml") && said.contains("data stays"),
        "{said}"
    );
    assert_eq!(machine.installed("config.toml"), "mine");
    assert_eq!(machine.read("data/blvm-fixture/books"), "precious");
    assert!(machine.ok(&["list"]).contains("no modules"));
    machine.refused(&["remove", "blvm-fixture"], 3);
}

#[test]
fn data_is_removed_only_if_it_was_asked_for_and_confirmed() {
    let machine = Machine::new();
    let archive = machine.archive("1.0.0", "#!/bin/sh\n");
    machine.ok(&[
        "install",
        "--archive",
        archive.to_str().unwrap(),
        "--sha256",
        &sha256(&archive),
    ]);
    machine.write("data/blvm-fixture/books", "precious");
    let data = machine.path("data");
    let data = data.to_str().unwrap();
    assert!(
        machine
            .refused(&["remove", "blvm-fixture", "--purge-data"], 3)
            .contains("--data-dir")
    );
    let said = machine.refused(&["remove", "blvm-fixture", "--purge-data", "--data-dir", data], 3);
    assert!(said.contains("--yes") && said.contains("keys"), "{said}");
    machine.ok(&["verify", "blvm-fixture"]);
    // A data directory that holds the modules, or is one of them, is not the module's alone.
    let modules = machine.modules();
    let modules = modules.to_str().unwrap();
    machine.refused(
        &[
            "remove",
            "blvm-fixture",
            "--purge-data",
            "--yes",
            "--data-dir",
            modules,
        ],
        3,
    );
    assert_eq!(machine.read("data/blvm-fixture/books"), "precious");

    machine.ok(&[
        "remove",
        "blvm-fixture",
        "--purge-data",
        "--yes",
        "--data-dir",
        data,
    ]);
    assert!(!machine.path("data/blvm-fixture").exists());
}

#[test]
fn the_modules_directory_is_found_in_the_nodes_configuration() {
    let machine = Machine::new();
    let archive = machine.archive("1.0.0", "#!/bin/sh\n");
    let config = machine.write(
        "blvm.toml",
        &format!(
            "[modules]\nmodules_dir = {:?}\ndata_dir = {:?}\n",
            machine.modules(),
            machine.path("data")
        ),
    );
    let config = config.to_str().unwrap();
    let install = [
        "--node-config",
        config,
        "install",
        "--archive",
        archive.to_str().unwrap(),
    ];
    let said = machine.anywhere(&[&install[..], &["--sha256", &sha256(&archive)]].concat(), 0);
    assert!(
        said.contains("blvm-fixture = \"1.0.*\""),
        "the node would not load it without its pin: {said}"
    );
    assert!(machine.ok(&["list"]).contains("blvm-fixture"));
    let said = machine.anywhere(&["list"], 3);
    assert!(
        said.contains("--modules-dir") && said.contains("--node-config"),
        "{said}"
    );
}

#[test]
fn names_are_names_and_not_paths() {
    let machine = Machine::new();
    machine.write("modules/precious/x", "precious");
    for name in ["../data", "/etc", "precious/..", "-x", ".", ""] {
        for command in ["remove", "upgrade", "rollback", "verify", "install"] {
            let (code, said) = machine.run(&[
                "--modules-dir",
                machine.modules().to_str().unwrap(),
                command,
                name,
            ]);
            assert!(code == 3 || code == 2, "{command} {name}: {code} {said}");
        }
    }
    assert_eq!(machine.read("modules/precious/x"), "precious");
}
