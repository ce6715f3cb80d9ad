//! A machine with a node's directories, a crate to install and a package registry that is a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const NAME: &str = "blvm-fixture";

pub(crate) struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let machine = Self {
            root: tempfile::tempdir().unwrap(),
        };
        for dir in ["empty", "cargo-home", "registry/index/bl/vm"] {
            fs::create_dir_all(machine.path(dir)).unwrap();
        }
        let registry = machine.path("registry");
        machine.write(
            "cargo-home/config.toml",
            &format!(
                "[source.crates-io]\nreplace-with = \"folder\"\n[source.folder]\nlocal-registry = {registry:?}\n\
                 [net]\noffline = true\n"
            ),
        );
        machine
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.path("modules")
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// A file in the installed module's folder.
    pub(crate) fn installed(&self, path: &str) -> String {
        self.read(&format!("modules/{NAME}/{path}"))
    }

    /// A crate in a directory, whose program says one word.
    pub(crate) fn source(&self, version: &str, says: &str) -> PathBuf {
        self.write(
            "source/Cargo.toml",
            &format!(
                "[package]\nname = \"{NAME}\"\nversion = \"{version}\"\nedition = \"2024\"\ndescription = \"x\"\n\
                 license = \"MIT\"\n[workspace]\n"
            ),
        );
        let lock = format!("version = 4\n\n[[package]]\nname = \"{NAME}\"\nversion = \"{version}\"\n");
        self.write("source/Cargo.lock", &lock);
        self.write(
            "source/src/main.rs",
            &format!("fn main() {{ print!(\"{says}\"); }}\n"),
        );
        self.write("source/module.toml", &manifest(version));
        self.path("source")
    }

    /// Puts a version of the crate into the registry.
    pub(crate) fn publish(&self, version: &str, says: &str) {
        self.source(version, says);
        self.publish_source(version);
    }

    /// Puts the crate that lies in the directory into the registry.
    pub(crate) fn publish_source(&self, version: &str) {
        let package = ["package", "--no-verify", "--allow-dirty", "--offline", "--quiet"];
        let packaged = self
            .cargo()
            .args(package)
            .current_dir(self.path("source"))
            .status()
            .unwrap();
        assert!(packaged.success());
        let file = format!("{NAME}-{version}.crate");
        let at = self.path("registry").join(&file);
        fs::copy(self.path("source/target/package").join(&file), &at).unwrap();
        let index = self.path("registry/index/bl/vm").join(NAME);
        let entry = serde_json::json!({
            "name": NAME, "vers": version, "deps": [], "cksum": sha256(&at), "features": {}, "yanked": false
        });
        let before = fs::read_to_string(&index).unwrap_or_default();
        fs::write(&index, format!("{before}{entry}\n")).unwrap();
    }

    /// A release archive in which the program is this script; each replaces the one before.
    pub(crate) fn archive(&self, version: &str, script: &str) -> PathBuf {
        let path = self.path("release.tar.gz");
        let file = fs::File::create(&path).unwrap();
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
        for (name, text) in [("module.toml", manifest(version).as_str()), (NAME, script)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{NAME}-{version}/{name}"), text.as_bytes())
                .unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    /// What the program says that the node would start.
    pub(crate) fn runs(&self) -> String {
        let manifest: toml::Table = toml::from_str(&self.installed("module.toml")).unwrap();
        let program = self
            .modules()
            .join(NAME)
            .join(manifest["entry_point"].as_str().unwrap());
        String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap()
    }

    /// Runs a command that must succeed, on the modules directory; returns the standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.on_modules(arguments, 0)
    }

    /// Runs a command that must end with this code, on the modules directory; returns all it said.
    pub(crate) fn refused(&self, arguments: &[&str], code: i32) -> String {
        self.on_modules(arguments, code)
    }

    /// Runs a command that must end with this code, without saying where the modules are.
    pub(crate) fn anywhere(&self, arguments: &[&str], expected: i32) -> String {
        let (code, said) = self.run(arguments);
        assert_eq!(code, expected, "{arguments:?}: {said}");
        said
    }

    fn on_modules(&self, arguments: &[&str], expected: i32) -> String {
        let modules = self.modules();
        let arguments = [&["--modules-dir", modules.to_str().unwrap()], arguments].concat();
        self.anywhere(&arguments, expected)
    }

    /// Exit code, and what it said: the standard output if there is any, else the standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-blvm-module"));
        command
            .arg("blvm-module")
            .args(arguments)
            .current_dir(self.path("empty"));
        command
            .env("CARGO_HOME", self.path("cargo-home"))
            .env_remove("CARGO_TARGET_DIR");
        // Cargo's proxy finds its toolchain from the home directory unless it is told.
        if std::env::var_os("RUSTUP_HOME").is_none()
            && let Some(home) = std::env::var_os("HOME")
        {
            command.env("RUSTUP_HOME", Path::new(&home).join(".rustup"));
        }
        command.env("HOME", self.path("empty"));
        let output = command.output().unwrap();
        let said = if output.stdout.is_empty() {
            output.stderr
        } else {
            output.stdout
        };
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command
            .env("CARGO_HOME", self.path("cargo-home"))
            .env_remove("CARGO_TARGET_DIR");
        command
    }
}

fn manifest(version: &str) -> String {
    format!(
        "name = \"{NAME}\"\nversion = \"{version}\"\nentry_point = \"{NAME}\"\n\
         capabilities = [\"read_blockchain\", \"subscribe_events\"]\n"
    )
}

pub(crate) fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}
