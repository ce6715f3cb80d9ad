//! A node's disk: what survives a kill.
//!
//! Like a database it keeps one value under each key: of the announcements seen of one node the last, of leased numbers
//! the last. A thousand restarts later it is as large as before.

use std::collections::BTreeMap;

use mesh_core::event::Record;
use mesh_core::identity::NodeId;
use mesh_core::time::UnixMillis;

/// What a node wrote down.
#[derive(Debug, Default)]
pub(super) struct Disk {
    own_seqno: Option<u64>,
    seen: BTreeMap<NodeId, (u64, UnixMillis)>,
    /// Everything else, oldest first.
    others: Vec<Record>,
}

impl Disk {
    pub(super) fn write(&mut self, record: Record) {
        match record {
            Record::OwnSeqno(seqno) => self.own_seqno = Some(seqno),
            Record::AnnouncementSeen {
                origin,
                seqno,
                expires,
            } => {
                self.seen.insert(origin, (seqno, expires));
            }
            Record::AnnouncementForgotten { origin } => {
                self.seen.remove(&origin);
            }
            other => self.others.push(other),
        }
    }

    /// Everything, in an order in which it can be restored.
    pub(super) fn read(&self) -> Vec<Record> {
        let own = self.own_seqno.map(Record::OwnSeqno);
        let seen = self
            .seen
            .iter()
            .map(|(origin, (seqno, expires))| Record::AnnouncementSeen {
                origin: *origin,
                seqno: *seqno,
                expires: *expires,
            });
        own.into_iter()
            .chain(seen)
            .chain(self.others.iter().cloned())
            .collect()
    }
}
