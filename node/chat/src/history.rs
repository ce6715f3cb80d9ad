//! What arrived, in files of one JSON object to a line.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use mesh_module::mesh_api::Delivery;
use mesh_module::node_ipc::Event;
use serde_json::{Value, json};

/// Messages, each once. The mesh hands a message over again when it did not see our answer, for one of us may have been
/// killed in between: the packet's id tells that it is the same.
pub(crate) struct Received {
    file: File,
    /// Those that came again: not read by anybody but whoever wants to know how often that happens.
    repeats: File,
    packets: HashSet<String>,
}

impl Received {
    /// What arrived in earlier runs counts.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let mut file = appendable(&data_dir.join("received.jsonl"))?;
        let mut packets = HashSet::new();
        let mut complete = true;
        for line in BufReader::new(&file).split(b'\n') {
            let line: Option<Value> = serde_json::from_slice(&line?).ok();
            complete = line.is_some();
            packets.extend(line.and_then(|line| line["packet_id"].as_str().map(str::to_owned)));
        }
        // The last line of a program that was killed while it wrote: the mesh has no answer for it and hands it over again.
        if !complete {
            file.write_all(b"\n")?;
        }
        let repeats = appendable(&data_dir.join("repeats.jsonl"))?;
        Ok(Self {
            file,
            repeats,
            packets,
        })
    }

    /// Writes down a message; one that was written down, only that it came again. Afterwards it survives whatever happens to this program.
    pub(crate) fn add(&mut self, delivery: &Delivery) -> io::Result<()> {
        let packet_id = hex::encode(delivery.packet_id);
        if self.packets.contains(&packet_id) {
            return write_line(&mut self.repeats, &json!({"packet_id": packet_id}));
        }
        let line = json!({
            "packet_id": packet_id,
            "from": delivery.source.map(hex::encode),
            "text": String::from_utf8_lossy(&delivery.payload),
        });
        write_line(&mut self.file, &line)?;
        self.file.sync_data()?;
        self.packets.insert(packet_id);
        Ok(())
    }
}

/// What the node and the mesh told of.
pub(crate) struct Events {
    file: File,
}

impl Events {
    /// Goes on with the file of earlier runs.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let file = appendable(&data_dir.join("events.jsonl"))?;
        Ok(Self { file })
    }

    /// Writes down an event.
    pub(crate) fn add(&mut self, event: &Event) -> io::Result<()> {
        let contents = event.payload.as_ref().map(|payload| format!("{payload:?}"));
        let line = json!({"kind": format!("{:?}", event.kind), "contents": contents});
        write_line(&mut self.file, &line)
    }
}

fn appendable(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

/// One write, so that a line is there or not.
fn write_line(file: &mut File, line: &Value) -> io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())
}
