use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::*;

const MANIFEST: &str = "name = \"m\"\nversion = \"1.0.0\"\nentry_point = \"m\"\n";

/// A `.tar.gz` in the making, which holds what no well-meaning program would write.
struct Made {
    tar: Builder<GzEncoder<Vec<u8>>>,
}

impl Made {
    fn new() -> Self {
        Self {
            tar: Builder::new(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }

    fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, "", bytes)
    }

    /// Writes the name into the header as it is: the library would refuse most of these.
    fn entry(mut self, path: &str, kind: EntryType, link: &str, bytes: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.tar.append(&header, bytes).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.tar.into_inner().unwrap().finish().unwrap()
    }

    fn open(self) -> Result<Package, InstallError> {
        open_bytes(&self.bytes())
    }

    fn refusal(self) -> ArchiveError {
        match self.open() {
            Err(InstallError::Archive { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    }
}

fn open_bytes(bytes: &[u8]) -> Result<Package, InstallError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.tar.gz");
    fs::write(&path, bytes).unwrap();
    open(&path, &hex::encode(Sha256::digest(bytes)), &|_| Ok(()))
}

#[test]
fn a_release_opens_from_its_root_and_from_its_only_folder() {
    for prefix in ["", "./", "m-1.0.0/", "./m-1.0.0/"] {
        let package = Made::new()
            .file(&format!("{prefix}module.toml"), MANIFEST.as_bytes())
            .file(&format!("{prefix}m"), b"#!")
            .file(&format!("{prefix}docs/README"), b"hello")
            .open()
            .unwrap();
        assert_eq!(package.manifest.name, "m");
        let placed: Vec<&Path> = package.files.iter().map(|(_, to)| to.as_path()).collect();
        assert_eq!(placed, [Path::new("docs/README"), Path::new("m")], "{prefix}");
        assert_eq!(fs::read(package.program().unwrap()).unwrap(), b"#!");
    }
}

#[test]
fn an_entry_never_leads_out_of_the_folder() {
    for path in [
        "../escaped",
        "a/../../escaped",
        "/escaped-by-blvm-test",
        "a\\..\\escaped",
    ] {
        let refusal = Made::new()
            .file(path, b"x")
            .file("module.toml", MANIFEST.as_bytes())
            .refusal();
        assert!(
            matches!(&refusal, ArchiveError::Escapes(named) if named == path),
            "{path}: {refusal}"
        );
    }
}

#[test]
fn links_devices_and_pipes_are_refused_by_kind() {
    for (kind, name) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "pipe"),
        (EntryType::new(b'V'), "thing of an unknown kind"),
    ] {
        let refusal = Made::new().entry("m", kind, "/etc/passwd", b"").refusal();
        assert!(
            matches!(refusal, ArchiveError::Kind { kind, .. } if kind == name),
            "{refusal}"
        );
    }
}

#[test]
fn a_sparse_file_cannot_write_out_holes_that_were_never_read() {
    let mut made = Made::new();
    let mut header = Header::new_gnu();
    header.set_path("m").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(1 << 40);
    header.set_size(0);
    header.set_cksum();
    made.tar.append(&header, std::io::empty()).unwrap();
    let refusal = made.refusal();
    assert!(
        matches!(
            refusal,
            ArchiveError::Kind {
                kind: "sparse file",
                ..
            } | ArchiveError::Broken(_)
        ),
        "{refusal}"
    );
}

#[test]
fn nothing_is_there_twice_nor_written_through_something_else() {
    let twice = Made::new().file("m", b"1").file("./m", b"2").refusal();
    assert!(matches!(twice, ArchiveError::Twice(_)), "{twice}");
    let through = Made::new().file("m", b"1").file("m/x", b"2").open();
    assert!(through.is_err());
}

#[test]
fn the_installers_own_record_cannot_be_brought_along() {
    let refusal = Made::new()
        .file("module.toml", MANIFEST.as_bytes())
        .file("m", b"#!")
        .file("installed.toml", b"sha256 = \"forged\"")
        .refusal();
    assert!(matches!(refusal, ArchiveError::Reserved(_)), "{refusal}");
}

#[test]
fn a_bomb_stops_at_the_bound() {
    let bomb = Made::new().file("m", &vec![0; 4 << 20]).bytes();
    assert!(bomb.len() < 64 << 10, "it is small before it is opened");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb");
    fs::write(&path, bomb).unwrap();
    let outcome = unpack(File::open(&path).unwrap(), &dir.path().join("into"), 1 << 20);
    assert!(
        matches!(outcome, Err(Problem::Archive(ArchiveError::TooBig))),
        "{outcome:?}"
    );
    let written = fs::metadata(dir.path().join("into/m")).unwrap().len();
    assert!(written <= 1 << 20, "{written}");
}

#[test]
fn a_million_names_are_a_bomb_too() {
    let mut made = Made::new();
    for index in 0..=MAX_ENTRIES {
        made = made.file(&format!("f{index}"), b"");
    }
    assert!(matches!(made.refusal(), ArchiveError::TooBig));
}

#[test]
fn what_is_cut_short_or_no_archive_is_refused() {
    let whole = Made::new()
        .file("module.toml", MANIFEST.as_bytes())
        .file("m", &[7; 100_000])
        .bytes();
    for bytes in [&whole[..whole.len() / 2], b"not an archive", b""] {
        let outcome = open_bytes(bytes);
        assert!(
            matches!(outcome, Err(InstallError::Archive { .. })),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_manifest_and_its_program_must_be_there() {
    let none = Made::new().file("m", b"#!").refusal();
    assert!(matches!(none, ArchiveError::NoManifest), "{none}");
    let two_folders = Made::new()
        .file("a/module.toml", MANIFEST.as_bytes())
        .file("a/m", b"")
        .file("b/m", b"")
        .refusal();
    assert!(matches!(two_folders, ArchiveError::NoManifest), "{two_folders}");
    let no_program = Made::new().file("module.toml", MANIFEST.as_bytes()).refusal();
    assert!(matches!(no_program, ArchiveError::NoProgram(_)), "{no_program}");
}

#[test]
fn checksums_are_taken_as_sha256sum_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let hash = "Ab".repeat(32);
    let archive = Path::new("/somewhere/m.tar.gz");
    let expect = |text: &str| {
        let file = dir.path().join("sums");
        fs::write(&file, text).unwrap();
        expected_checksum(file.to_str().unwrap(), archive).ok()
    };
    let lower = Some(hash.to_lowercase());
    assert_eq!(expected_checksum(&hash, archive).ok(), lower);
    assert_eq!(expect(&format!("{hash}\n")), lower);
    assert_eq!(
        expect(&format!("{}  other.tar.gz\n{hash} *m.tar.gz\n", "0".repeat(64))),
        lower
    );
    assert_eq!(expect(&format!("{hash}  ./dist/m.tar.gz\n")), lower);
    assert_eq!(
        expect(&format!("{hash}  other.tar.gz\n")),
        None,
        "the sum of another file"
    );
    assert_eq!(
        expect("d41d8cd98f00b204e9800998ecf8427e  m.tar.gz\n"),
        None,
        "MD5"
    );
    for given in ["", "abc", "no/such/file"] {
        assert!(expected_checksum(given, archive).is_err(), "{given}");
    }
}
