//! Which network announces an address: a map from addresses to autonomous system numbers.
//!
//! The file is the operator's to supply, in the format of Bitcoin Core's `-asmap` option (its source, util/asmap.cpp, is
//! where the format is defined): a binary trie over the 128 bits of an IPv6 address, IPv4 addresses mapped into it, written as a
//! program of four instructions. It is read as it is; nothing of it is trusted but that its operator chose it.

use std::net::IpAddr;

/// Largest map taken, in bytes: those published hold about 1.5 million.
pub const MAX_ASMAP_BYTES: usize = 16 * 1024 * 1024;

/// Bits of an address.
const ADDRESS_BITS: u32 = 128;

/// Instructions and numbers are written in classes, each of so many bits after its prefix.
const INSTRUCTION_CLASSES: &[u8] = &[0, 0, 1];
const ASN_CLASSES: &[u8] = &[15, 16, 17, 18, 19, 20, 21, 22, 23, 24];
const MATCH_CLASSES: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
const JUMP_CLASSES: &[u8] = &[
    5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
];

/// Why a map is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AsmapError {
    /// Larger than [`MAX_ASMAP_BYTES`].
    #[error("the asmap has {0} bytes, more than {MAX_ASMAP_BYTES}: it is no map of the Internet's networks")]
    TooLarge(usize),
    /// Not every address leads to an answer within the map.
    #[error(
        "the asmap is cut short or no asmap: an address leads out of it; fetch it again and compare its checksum"
    )]
    Broken,
}

/// A map from addresses to autonomous system numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asmap {
    bytes: Vec<u8>,
}

impl Asmap {
    /// Takes up a file's bytes after checking that every address has an answer in it.
    ///
    /// # Errors
    /// [`AsmapError`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, AsmapError> {
        if bytes.len() > MAX_ASMAP_BYTES {
            return Err(AsmapError::TooLarge(bytes.len()));
        }
        let map = Self { bytes };
        map.check().map(|()| map).ok_or(AsmapError::Broken)
    }

    /// The network that announces an address; `None` when the map knows none.
    pub fn lookup(&self, address: IpAddr) -> Option<u32> {
        let address = match address {
            IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => u128::from(v6),
        };
        self.run(address).filter(|asn| *asn != 0)
    }

    fn run(&self, address: u128) -> Option<u32> {
        let mut program = Reader::new(&self.bytes);
        let mut left = ADDRESS_BITS;
        let mut otherwise = 0;
        // Each instruction reads at least one bit, and jumps go forward only: it ends.
        loop {
            match program.instruction()? {
                Instruction::Return(asn) => return Some(asn),
                Instruction::Jump(distance) => {
                    left = left.checked_sub(1)?;
                    if address >> left & 1 == 1 {
                        program.skip(distance)?;
                    }
                }
                Instruction::Match { bits, count } => {
                    left = left.checked_sub(count)?;
                    let part = (address >> left) & ((1 << count) - 1);
                    if part != u128::from(bits) {
                        return Some(otherwise);
                    }
                }
                Instruction::Default(asn) => otherwise = asn,
            }
        }
    }

    /// Walks the whole trie once, as Bitcoin Core does before it uses a map: every branch ends in an answer within the
    /// 128 bits, branches do not overlap, and nothing but padding follows the last.
    fn check(&self) -> Option<()> {
        let mut program = Reader::new(&self.bytes);
        let mut left = ADDRESS_BITS;
        // Where the other sides of jumps begin, and how many bits are left there.
        let mut pending: Vec<(usize, u32)> = Vec::new();
        loop {
            if pending.last().is_some_and(|(start, _)| program.at > *start) {
                return None;
            }
            match program.instruction()? {
                Instruction::Return(_) => {
                    let Some((start, bits)) = pending.pop() else {
                        return program.only_padding_left().then_some(());
                    };
                    if program.at != start {
                        return None;
                    }
                    left = bits;
                }
                Instruction::Jump(distance) => {
                    left = left.checked_sub(1)?;
                    let start = program.at.checked_add(distance as usize)?;
                    let beyond = pending.last().is_some_and(|(next, _)| start >= *next);
                    if start > self.bytes.len() * 8 || beyond {
                        return None;
                    }
                    pending.push((start, left));
                }
                Instruction::Match { count, .. } => left = left.checked_sub(count)?,
                Instruction::Default(_) => {}
            }
        }
    }
}

enum Instruction {
    /// The answer.
    Return(u32),
    /// If the next bit of the address is set, go on so many bits further.
    Jump(u32),
    /// If the next `count` bits are not these, the answer is the default.
    Match { bits: u32, count: u32 },
    /// The answer when a match fails from here on.
    Default(u32),
}

/// Reads bits, the lowest of each byte first.
struct Reader<'m> {
    bytes: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn new(bytes: &'m [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    fn skip(&mut self, distance: u32) -> Option<()> {
        self.at = self.at.checked_add(distance as usize)?;
        (self.at < self.bytes.len() * 8).then_some(())
    }

    fn instruction(&mut self) -> Option<Instruction> {
        Some(match self.number(0, INSTRUCTION_CLASSES)? {
            0 => Instruction::Return(self.number(1, ASN_CLASSES)?),
            1 => Instruction::Jump(self.number(17, JUMP_CLASSES)?),
            2 => {
                let bits = self.number(2, MATCH_CLASSES)?;
                // The highest bit only says how many follow it.
                let count = bits.ilog2();
                let bits = bits ^ (1 << count);
                Instruction::Match { bits, count }
            }
            _ => Instruction::Default(self.number(1, ASN_CLASSES)?),
        })
    }

    /// A number of at least `least`: a set bit for each class that it is too large for, a clear one (none before the last
    /// class) and its place within its class.
    fn number(&mut self, least: u32, classes: &[u8]) -> Option<u32> {
        let mut number = least;
        for (place, class) in classes.iter().enumerate() {
            let is_last = place + 1 == classes.len();
            if !is_last && self.bit()? == 1 {
                number = number.checked_add(1 << class)?;
                continue;
            }
            let mut within = 0;
            for _ in 0..*class {
                within = within << 1 | self.bit()?;
            }
            return number.checked_add(within);
        }
        None
    }

    fn only_padding_left(&mut self) -> bool {
        let left = self.bytes.len() * 8 - self.at;
        left < 8 && std::iter::from_fn(|| self.bit()).all(|bit| bit == 0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes what [`Reader`] reads.
    #[derive(Default)]
    pub(crate) struct Writer {
        bits: Vec<bool>,
    }

    impl Writer {
        fn number(&mut self, value: u32, least: u32, classes: &[u8]) {
            let mut rest = value - least;
            for (place, class) in classes.iter().enumerate() {
                let is_last = place + 1 == classes.len();
                if !is_last {
                    let larger = rest >= 1 << class;
                    self.bits.push(larger);
                    if larger {
                        rest -= 1 << class;
                        continue;
                    }
                }
                self.bits
                    .extend((0..*class).rev().map(|bit| rest >> bit & 1 == 1));
                return;
            }
        }

        fn answer(&mut self, asn: u32) {
            self.number(0, 0, INSTRUCTION_CLASSES);
            self.number(asn, 1, ASN_CLASSES);
        }

        fn otherwise(&mut self, asn: u32) {
            self.number(3, 0, INSTRUCTION_CLASSES);
            self.number(asn, 1, ASN_CLASSES);
        }

        fn expect(&mut self, bits: &[bool]) {
            for part in bits.chunks(8) {
                let number = part
                    .iter()
                    .fold(1u32, |number, bit| number << 1 | u32::from(*bit));
                self.number(2, 0, INSTRUCTION_CLASSES);
                self.number(number, 2, MATCH_CLASSES);
            }
        }

        /// Either side of the next bit.
        fn fork(&mut self, clear: Writer, set: Writer) {
            self.number(1, 0, INSTRUCTION_CLASSES);
            self.number(clear.bits.len() as u32, 17, JUMP_CLASSES);
            self.bits.extend(clear.bits);
            self.bits.extend(set.bits);
        }

        fn into_bytes(self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                bits.iter()
                    .enumerate()
                    .fold(0, |byte, (place, bit)| byte | u8::from(*bit) << place)
            };
            self.bits.chunks(8).map(byte).collect()
        }
    }

    fn bits_of(address: &str, count: usize) -> Vec<bool> {
        let address: IpAddr = address.parse().unwrap();
        let address = match address {
            IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => u128::from(v6),
        };
        (0..count).map(|bit| address >> (127 - bit) & 1 == 1).collect()
    }

    /// 9.0.0.0/8 is AS 64500 but for 9.128.0.0/9, which is AS 4200000; all other addresses are AS 1.
    pub(crate) fn sample() -> Vec<u8> {
        let answer = |asn| {
            let mut writer = Writer::default();
            writer.answer(asn);
            writer
        };
        let mut map = Writer::default();
        map.otherwise(1);
        map.expect(&bits_of("9.0.0.0", 104));
        map.fork(answer(64_500), answer(4_200_000));
        map.into_bytes()
    }

    #[test]
    fn addresses_are_found_in_their_networks() {
        let map = Asmap::new(sample()).unwrap();
        let found = |address: &str| map.lookup(address.parse().unwrap());
        assert_eq!(found("9.1.2.3"), Some(64_500));
        assert_eq!(found("9.127.255.255"), Some(64_500));
        assert_eq!(found("9.128.0.0"), Some(4_200_000));
        assert_eq!(found("8.8.8.8"), Some(1));
        assert_eq!(found("2001:db8::1"), Some(1));
    }

    #[test]
    fn map_that_is_cut_short_or_too_long_is_refused() {
        let whole = sample();
        for length in 0..whole.len() {
            assert_eq!(
                Asmap::new(whole[..length].to_vec()),
                Err(AsmapError::Broken),
                "{length}"
            );
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(Asmap::new(longer), Err(AsmapError::Broken));
        let size = MAX_ASMAP_BYTES + 1;
        assert_eq!(Asmap::new(vec![0; size]), Err(AsmapError::TooLarge(size)));
    }

    proptest! {
        /// Whatever is in a file, reading it ends and every address has an answer or none.
        #[test]
        fn no_file_and_no_address_can_hang_or_break_it(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            address in any::<u128>(),
        ) {
            let _ = Asmap { bytes: bytes.clone() }.run(address);
            if let Ok(map) = Asmap::new(bytes) {
                prop_assert!(map.run(address).is_some(), "a checked map answers");
            }
        }
    }
}
