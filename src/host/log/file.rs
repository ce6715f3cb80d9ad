//! A log file that never outgrows its bounds.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The log's name within the data directory; older ones have `.1`, `.2`, … after it.
pub const LOG_FILE: &str = "module.log";

/// Bytes of one file: some ten thousand lines.
pub const LOG_FILE_BYTES: u64 = 4 << 20;

/// Files that are kept, the one that is written included.
pub const LOG_FILES: u32 = 4;

/// Writes to one file until it is full, then begins another and lets go of the oldest. A line is never divided between two.
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    written: u64,
    most_bytes: u64,
    most_files: u32,
}

impl RotatingFile {
    /// Goes on where an earlier life left off.
    pub(super) fn open(path: &Path, most_bytes: u64, most_files: u32) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self {
            path: path.to_owned(),
            written: file.metadata()?.len(),
            file,
            most_bytes,
            most_files,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        for older in (1..self.most_files).rev() {
            let from = match older {
                1 => self.path.clone(),
                _ => self.numbered(older - 1),
            };
            match std::fs::rename(from, self.numbered(older)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.most_files <= 1 {
            std::fs::remove_file(&self.path)?;
        }
        self.file = append(&self.path)?;
        self.written = self.file.metadata()?.len();
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

impl Write for RotatingFile {
    /// One call is one line. Of a line longer than a file its beginning is kept.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let kept = usize::try_from(self.most_bytes)
            .unwrap_or(usize::MAX)
            .min(line.len());
        let bytes = line.get(..kept).unwrap_or(line);
        if self.written > 0 && self.written + bytes.len() as u64 > self.most_bytes {
            self.rotate()?;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Readable by its owner only: it names peers and what was paid.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn files(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        files.sort();
        files
    }

    fn named(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        list.iter().map(own).collect()
    }

    #[test]
    fn the_newest_lines_are_kept_in_so_many_files_of_such_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::open(&folder.path().join("log"), 10, 3).unwrap();
        for line in 1..=9 {
            log.write_all(format!("l {line}\n").as_bytes()).unwrap();
        }
        let kept = named(&[("log", "l 9\n"), ("log.1", "l 7\nl 8\n"), ("log.2", "l 5\nl 6\n")]);
        assert_eq!(files(folder.path()), kept);
    }

    #[test]
    fn a_restart_goes_on_in_the_same_file_and_counts_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            let mut log = RotatingFile::open(&folder.path().join("log"), 10, 2).unwrap();
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(
            files(folder.path()),
            named(&[("log", "three\n"), ("log.1", "one\ntwo\n")])
        );
        let mode = std::fs::metadata(folder.path().join("log"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_line_longer_than_a_file_is_cut_and_one_file_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::open(&folder.path().join("log"), 10, 1).unwrap();
        log.write_all(b"short\n").unwrap();
        log.write_all(&[b'x'; 1000]).unwrap();
        assert_eq!(files(folder.path()), named(&[("log", "xxxxxxxxxx")]));
    }

    #[test]
    fn a_log_that_cannot_be_turned_over_says_so_and_goes_on_once_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::open(&folder.path().join("log"), 10, 2).unwrap();
        log.write_all(b"12345678\n").unwrap();
        // A directory that is not empty is in the way.
        std::fs::create_dir_all(folder.path().join("log.1/full")).unwrap();
        assert!(log.write_all(b"lost\n").is_err());
        std::fs::remove_dir_all(folder.path().join("log.1")).unwrap();
        log.write_all(b"kept\n").unwrap();
        assert_eq!(
            files(folder.path()),
            named(&[("log", "kept\n"), ("log.1", "12345678\n")])
        );
    }
}
