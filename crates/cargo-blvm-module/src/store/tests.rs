use std::cell::Cell;
use std::io;
use std::path::Path;

use super::*;
use crate::disk::RealDisk;
use crate::inspect::{self, Report};
use crate::source::Source;

/// A disk whose power is cut at its n-th work: that work is half done, and nothing is done after it.
struct CutDisk {
    left: Cell<usize>,
}

impl CutDisk {
    fn work(&self, done: impl FnOnce() -> io::Result<()>, half_done: impl FnOnce()) -> io::Result<()> {
        match self.left.get() {
            0 => Err(io::Error::other("no power")),
            1 => {
                self.left.set(0);
                half_done();
                Err(io::Error::other("power cut"))
            }
            left => {
                self.left.set(left - 1);
                done()
            }
        }
    }
}

impl Disk for CutDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.work(|| RealDisk.create_dir(path), || ())
    }
    fn copy(&self, from: &Path, to: &Path, mode: u32) -> io::Result<()> {
        let half = || {
            let bytes = fs::read(from).unwrap();
            fs::write(to, &bytes[..bytes.len() / 2]).unwrap();
        };
        self.work(|| RealDisk.copy(from, to, mode), half)
    }
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        self.work(
            || RealDisk.write(path, text),
            || fs::write(path, &text[..text.len() / 2]).unwrap(),
        )
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.work(|| RealDisk.rename(from, to), || ())
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.work(|| RealDisk.sync_dir(path), || ())
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        // Half of it: the first file that is found.
        let half = || {
            if let Some(file) = entries(path)
                .unwrap_or_default()
                .into_iter()
                .find(|path| path.is_file())
            {
                fs::remove_file(file).unwrap();
            }
        };
        self.work(|| RealDisk.remove_dir(path), half)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.work(|| RealDisk.remove_file(path), || ())
    }
}

struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn modules(&self) -> PathBuf {
        self.root.path().join("modules")
    }

    fn folder(&self) -> PathBuf {
        self.modules().join("m")
    }

    fn package(&self, version: &str, program: &str) -> Package {
        let file = self.root.path().join(format!("built-{version}"));
        fs::write(&file, program).unwrap();
        let text = format!("name = \"m\"\nversion = \"{version}\"\nentry_point = \"bin/m\"\n");
        Package {
            manifest: Manifest::parse(&text).unwrap(),
            files: vec![(file, PathBuf::from("bin/m"))],
            source: Some(Source::Path {
                dir: self.root.path().to_owned(),
                build: crate::source::Build {
                    profile: "release".to_owned(),
                    features: Vec::new(),
                },
            }),
            _holder: None,
        }
    }

    fn store<'a>(&self, disk: &'a dyn Disk) -> Result<Store<'a>, Error> {
        Store::open(disk, &self.modules())
    }

    fn place(&self, disk: &dyn Disk, package: &Package) -> Result<Outcome, Error> {
        self.store(disk)?.place(package)
    }

    /// The version and the program that the node would run; `None` if it would see no module.
    fn runs(&self) -> Option<(String, String)> {
        let report = self.report().ok()?;
        assert_eq!(report.faults, [""; 0], "a module that is there must be whole");
        let program = fs::read_to_string(report.program.unwrap()).unwrap();
        Some((report.version.unwrap(), program))
    }

    fn report(&self) -> Result<Report, Error> {
        inspect::module(&self.modules(), "m")
    }

    fn releases(&self) -> usize {
        entries(&self.folder().join(RELEASES)).unwrap().len()
    }
}

fn version(version: &str, program: &str) -> Option<(String, String)> {
    Some((version.to_owned(), program.to_owned()))
}

/// Runs a change with the power cut at its first work, at its second, … until it gets through. After each cut the module
/// must be whole, the old or the new, and the same change must then succeed.
fn survives_every_cut(
    prepare: impl Fn(&Node),
    change: impl Fn(&Node, &dyn Disk) -> Result<(), Error>,
    old: Option<(String, String)>,
    new: &Option<(String, String)>,
) {
    for cut in 1.. {
        let node = Node::new();
        prepare(&node);
        let disk = CutDisk { left: Cell::new(cut) };
        let got_through = change(&node, &disk).is_ok();
        let runs = node.runs();
        assert!(runs == old || runs == *new, "cut {cut}: {runs:?}");
        if disk.left.get() > 0 {
            assert!(got_through && runs == *new && cut > 4, "cut {cut}");
            return;
        }
        change(&node, &RealDisk).unwrap();
        assert_eq!(node.runs(), *new, "again after cut {cut}");
    }
}

#[test]
fn a_power_cut_at_any_moment_of_an_upgrade_leaves_a_whole_module() {
    survives_every_cut(
        |node| {
            for (version, program) in [("1.0.0", "one"), ("1.1.0", "two")] {
                node.place(&RealDisk, &node.package(version, program)).unwrap();
            }
            fs::write(node.folder().join("config.toml"), "mine").unwrap();
        },
        |node, disk| {
            let outcome = node.place(disk, &node.package("2.0.0", "three"));
            assert_eq!(
                fs::read_to_string(node.folder().join("config.toml")).unwrap(),
                "mine"
            );
            outcome.map(|_| ())
        },
        version("1.1.0", "two"),
        &version("2.0.0", "three"),
    );
}

#[test]
fn a_power_cut_at_any_moment_of_the_first_installation_leaves_nothing_or_all() {
    let install = |node: &Node, disk: &dyn Disk| node.place(disk, &node.package("1.0.0", "one")).map(|_| ());
    survives_every_cut(|_| (), install, None, &version("1.0.0", "one"));
}

#[test]
fn a_power_cut_while_a_module_put_there_by_hand_is_replaced_leaves_a_whole_one() {
    survives_every_cut(
        by_hand,
        |node, disk| node.place(disk, &node.package("2.0.0", "new")).map(|_| ()),
        version("0.9.0", "by hand"),
        &version("2.0.0", "new"),
    );
}

#[test]
fn a_power_cut_while_going_back_leaves_a_whole_module() {
    survives_every_cut(
        |node| {
            for (version, program) in [("1.0.0", "one"), ("2.0.0", "two")] {
                node.place(&RealDisk, &node.package(version, program)).unwrap();
            }
        },
        // Going back twice would be going forward.
        |node, disk| match node.runs() {
            runs if runs == version("1.0.0", "one") => Ok(()),
            _ => node.store(disk)?.roll_back("m").map(|_| ()),
        },
        version("2.0.0", "two"),
        &version("1.0.0", "one"),
    );
}

#[test]
fn a_power_cut_while_removing_leaves_the_whole_module_or_none() {
    survives_every_cut(
        |node| {
            node.place(&RealDisk, &node.package("1.0.0", "one")).unwrap();
        },
        |node, disk| match node.store(disk)?.remove("m") {
            Err(Error::NotInstalled { .. }) => Ok(()),
            outcome => outcome.map(|_| ()),
        },
        version("1.0.0", "one"),
        &None,
    );
}

/// As the system's documentation says to do it.
fn by_hand(node: &Node) {
    let dir = node.folder().join("target/release/bin");
    fs::create_dir_all(&dir).unwrap();
    RealDisk.write(&dir.join("m"), "by hand").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir.join("m"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let manifest = node.package("0.9.0", "").manifest.text;
    RealDisk
        .write(&node.folder().join("module.toml"), &manifest)
        .unwrap();
}

#[test]
fn one_can_go_back_and_forth_and_to_what_was_there_by_hand() {
    let node = Node::new();
    by_hand(&node);
    node.place(&RealDisk, &node.package("1.0.0", "one")).unwrap();
    assert!(
        !node.folder().join("target").exists(),
        "it was taken over, not left beside"
    );
    let back = || node.store(&RealDisk).unwrap().roll_back("m");
    back().unwrap();
    assert_eq!(node.runs(), version("0.9.0", "by hand"));
    back().unwrap();
    assert_eq!(node.runs(), version("1.0.0", "one"));
    node.place(&RealDisk, &node.package("2.0.0", "two")).unwrap();
    node.place(&RealDisk, &node.package("3.0.0", "three")).unwrap();
    back().unwrap();
    assert_eq!(node.runs(), version("2.0.0", "two"));
    assert_eq!(node.releases(), 2, "older ones are gone");
}

#[test]
fn removing_what_was_put_there_by_hand_leaves_what_was_not_the_modules() {
    let node = Node::new();
    by_hand(&node);
    fs::write(node.folder().join("target/notes"), "mine").unwrap();
    let removed = node.store(&RealDisk).unwrap().remove("m").unwrap();
    assert_eq!(removed.left, [node.folder().join("target")]);
    assert_eq!(
        entries(&removed.left[0]).unwrap(),
        [node.folder().join("target/notes")]
    );
    by_hand(&node);
    fs::remove_file(node.folder().join("target/notes")).unwrap();
    node.store(&RealDisk).unwrap().remove("m").unwrap();
    assert!(!node.folder().exists());
}

#[test]
fn what_is_damaged_is_never_gone_back_to() {
    let node = Node::new();
    for (version, program) in [("1.0.0", "one"), ("2.0.0", "two")] {
        node.place(&RealDisk, &node.package(version, program)).unwrap();
    }
    // The one in use is damaged: after the upgrade, back means the one before it.
    fs::write(node.report().unwrap().program.unwrap(), "damaged").unwrap();
    node.place(&RealDisk, &node.package("3.0.0", "three")).unwrap();
    let previous = node.report().unwrap().previous.unwrap();
    assert!(previous.starts_with("1.0.0-"), "{previous}");
    fs::write(
        node.folder().join(RELEASES).join(&previous).join("bin/m"),
        "damaged",
    )
    .unwrap();
    let outcome = node.store(&RealDisk).unwrap().roll_back("m");
    assert!(
        matches!(outcome, Err(Error::PreviousDamaged { .. })),
        "{outcome:?}"
    );
    assert_eq!(node.runs(), version("3.0.0", "three"));
}

#[test]
fn the_same_again_changes_nothing_unless_it_is_damaged() {
    let node = Node::new();
    let package = node.package("1.0.0", "one");
    node.place(&RealDisk, &package).unwrap();
    assert_eq!(node.place(&RealDisk, &package).unwrap(), Outcome::Same);
    fs::write(node.report().unwrap().program.unwrap(), "damaged").unwrap();
    assert_ne!(node.place(&RealDisk, &package).unwrap(), Outcome::Same);
    assert_eq!(node.runs(), version("1.0.0", "one"));
}

#[test]
fn an_edited_manifest_cannot_lead_the_installer_elsewhere() {
    let node = Node::new();
    node.place(&RealDisk, &node.package("1.0.0", "one")).unwrap();
    let path = node.folder().join("module.toml");
    let text = fs::read_to_string(&path).unwrap();
    let precious = node.modules().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(&path, format!("{text}previous = \"../../precious\"\n")).unwrap();
    assert_eq!(node.report().unwrap().previous, None);
    assert!(matches!(
        node.store(&RealDisk).unwrap().roll_back("m"),
        Err(Error::NoPrevious { .. })
    ));
    node.place(&RealDisk, &node.package("2.0.0", "two")).unwrap();
    assert!(precious.exists());
}

#[test]
fn a_changed_program_is_not_given_a_fresh_hash_by_being_taken_over() {
    let node = Node::new();
    by_hand(&node);
    let path = node.folder().join("module.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}[binary]\nhash = \"{}\"\n", "0".repeat(64))).unwrap();
    node.place(&RealDisk, &node.package("1.0.0", "one")).unwrap();
    assert_eq!(node.report().unwrap().previous, None);
}

#[cfg(unix)]
#[test]
fn nothing_is_written_or_removed_through_a_link() {
    let node = Node::new();
    let elsewhere = node.root.path().join("repository");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir_all(node.modules()).unwrap();
    fs::write(
        elsewhere.join("module.toml"),
        node.package("1.0.0", "one").manifest.text,
    )
    .unwrap();
    std::os::unix::fs::symlink(&elsewhere, node.folder()).unwrap();
    let placed = node.place(&RealDisk, &node.package("2.0.0", "two"));
    assert!(matches!(placed, Err(Error::Link { .. })), "{placed:?}");
    assert!(matches!(
        node.store(&RealDisk).unwrap().remove("m"),
        Err(Error::Link { .. })
    ));
    assert!(matches!(
        node.store(&RealDisk).unwrap().roll_back("m"),
        Err(Error::Link { .. })
    ));
    assert_eq!(entries(&elsewhere).unwrap(), [elsewhere.join("module.toml")]);
}

#[test]
fn two_at_once_are_one_too_many() {
    let node = Node::new();
    let first = node.store(&RealDisk).unwrap();
    assert!(matches!(node.store(&RealDisk), Err(Error::Busy { .. })));
    drop(first);
    node.store(&RealDisk).unwrap();
}

#[test]
fn a_program_that_is_not_its_authors_is_refused() {
    let node = Node::new();
    let mut package = node.package("1.0.0", "one");
    let text = format!(
        "{}[binary]\nhash = \"{}\"\n",
        package.manifest.text,
        "0".repeat(64)
    );
    package.manifest = Manifest::parse(&text).unwrap();
    let outcome = node.place(&RealDisk, &package);
    assert!(matches!(outcome, Err(Error::OtherProgram { .. })), "{outcome:?}");
    assert!(!node.folder().exists(), "nothing is left of it");
}
