//! A disk for tests that is full when told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::Database;
use redb::backends::InMemoryBackend;

use super::{Restored, Store, StoreError};

/// A disk that can be told to refuse. The file is the device: what was synced is there for the next who opens it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    device: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            device: Arc::new(InMemoryBackend::new()),
            full: Arc::default(),
        }
    }

    pub(crate) fn open(&self) -> Result<(Store, Restored), StoreError> {
        let disk = self.clone();
        let open = move || Ok(Database::builder().create_with_backend(disk.clone())?);
        Store::open_with("a disk", Box::new(open))
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), std::io::Error> {
        if self.full.load(Ordering::Relaxed) {
            Err(std::io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.device.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.device.read(offset, out)
    }

    fn set_len(&self, length: u64) -> Result<(), std::io::Error> {
        self.check()?;
        self.device.set_len(length)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.check()?;
        self.device.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.check()?;
        self.device.write(offset, data)
    }
}
