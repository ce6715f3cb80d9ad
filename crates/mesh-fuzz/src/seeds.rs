//! Inputs to begin with, made by the same code that speaks on the wire: so a fuzzer starts behind the first checks, and a
//! change of an encoding shows in the committed files.

mod carrier;
mod core;
mod local;
mod node;
mod socket;
mod wire;

/// A committed input.
pub struct Seed {
    /// The target it is for.
    pub target: &'static str,
    /// The name of its file.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All seeds.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Seeds::default();
    wire::add(&mut seeds);
    carrier::add(&mut seeds);
    core::add(&mut seeds);
    local::add(&mut seeds);
    node::add(&mut seeds);
    socket::add(&mut seeds);
    seeds.0
}

#[derive(Default)]
struct Seeds(Vec<Seed>);

impl Seeds {
    fn add(&mut self, target: &'static str, name: &str, bytes: impl Into<Vec<u8>>) {
        self.0.push(Seed {
            target,
            name: name.replace(' ', "-"),
            bytes: bytes.into(),
        });
    }

    /// With a first byte that chooses.
    fn chosen(&mut self, target: &'static str, name: &str, choice: u8, bytes: impl AsRef<[u8]>) {
        self.add(target, name, [&[choice], bytes.as_ref()].concat());
    }
}
