//! What a node tells its module in environment variables.
//!
//! A node reads the `config.toml` beside the module's binary and its own `[modules.NAME]`, flattens both, and starts the
//! module with one `MODULE_CONFIG_<KEY>` for each key. How a key arrives depends on where it stood:
//!
//! | in the node's files | variable | value |
//! |---|---|---|
//! | `max_peers = 9` | `MODULE_CONFIG_MAX_PEERS` | `9` |
//! | `[modules.NAME.mesh]` `max_peers = 9` | `MODULE_CONFIG_MESH.MAX_PEERS` | `9` |
//! | a list, in either | its key | its entries with commas between, or one variable `…[0]`, `…[1]` for each |
//! | a section of the module's `config.toml` | `MODULE_CONFIG_MESH` | `mesh.max_peers,9,mesh.mode,"open"` |
//!
//! All types are lost on the way, so a value is a text first, and whatever else it can be read as only when no text is
//! wanted. Names are upper case; all our keys are lower case.

use std::env;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::layers::{moved_to, put};
use super::reader::Problems;

/// How the names begin.
pub const VARIABLE_PREFIX: &str = "MODULE_CONFIG_";

/// What a node (0.1.83) hands to every module, whoever it is: the manifest's version, the database it would like, and where
/// its own network listens.
const OF_THE_NODE: [&str; 4] = [
    "version",
    "database_backend",
    "node_p2p_listen_ip",
    "node_p2p_listen_port",
];

/// One environment variable.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its whole name.
    pub name: String,
    /// Its value, which may be a secret; none when it is no text.
    pub value: Option<String>,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

impl Variable {
    /// Those of this process that a node means for its module, in the order of their names.
    pub fn of_this_process() -> Vec<Self> {
        let ours = env::vars_os().filter_map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            let value = value.into_string().ok();
            name.starts_with(VARIABLE_PREFIX).then_some(Self { name, value })
        });
        let mut ours: Vec<Self> = ours.collect();
        ours.sort_by(|left, right| left.name.cmp(&right.name));
        ours
    }
}

/// The variables as a document; each value's place is its variable's.
pub(super) fn read<'v>(variables: &'v [Variable], problems: &mut Problems<'_>) -> DeTable<'v> {
    let mut document = DeTable::new();
    for (index, variable) in variables.iter().enumerate() {
        let offset = problems.offset_of(index);
        let key = variable
            .name
            .strip_prefix(VARIABLE_PREFIX)
            .unwrap_or(&variable.name);
        let key = key.to_lowercase();
        if OF_THE_NODE.contains(&key.as_str()) {
            continue;
        }
        let Some(value) = &variable.value else {
            problems.add(offset, "is not valid UTF-8; set it to a text");
            continue;
        };
        let Some(value) = value_of(&key, value) else {
            problems.add(
                offset,
                format!(
                    "this section does not arrive whole from the node; write it as [{key}] into config.toml in the \
                     module's data directory"
                ),
            );
            continue;
        };
        put_at(&mut document, &key, &(offset..offset), value, problems);
    }
    lists_in(document)
}

/// Reads a variable's text as everything else that it may have been: a number or a truth, a list, a list of texts with
/// commas between.
pub(super) fn other_readings<T>(text: &str, read: impl Fn(&DeValue<'_>) -> Result<T, String>) -> Option<T> {
    let plain = DeValue::parse(text.trim()).ok();
    if let Some(read) = plain.and_then(|value| read(value.get_ref()).ok()) {
        return Some(read);
    }
    let listed = format!("[{text}]");
    let list = DeValue::parse(&listed).ok();
    if let Some(read) = list.and_then(|value| read(value.get_ref()).ok()) {
        return Some(read);
    }
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let entries = entries.map(|entry| Spanned::new(0..0, DeValue::String(entry.into())));
    read(&DeValue::Array(entries.collect::<DeArray<'_>>())).ok()
}

/// What a variable holds: a section that was flattened into pairs, a list of sections, or a text. None when it looks like
/// a section and cannot be taken apart.
fn value_of<'v>(key: &str, text: &'v str) -> Option<DeValue<'v>> {
    if text.starts_with(&format!("{key}.")) {
        return section_of_pairs(key, text).map(DeValue::Table);
    }
    Some(list_of_sections(text).unwrap_or(DeValue::String(text.into())))
}

/// `mesh.mode,"open",mesh.max_peers,9` as the section it was; the values are written as in TOML.
fn section_of_pairs<'v>(key: &str, text: &'v str) -> Option<DeTable<'v>> {
    let mut section = DeTable::new();
    let mut parts = split_at_commas(text).into_iter();
    while let Some(name) = parts.next() {
        let name = name.strip_prefix(key)?.strip_prefix('.')?;
        let value = DeValue::parse(parts.next()?).ok()?;
        section.insert(Spanned::new(0..0, name.into()), value);
    }
    Some(section)
}

/// The parts between the commas that are neither in quotes nor in brackets.
fn split_at_commas(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth, mut quote, mut escaped) = (0, 0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
        escaped = false;
    }
    parts.extend(text.get(start..));
    parts
}

/// `{ … },{ … }` as the list of sections it was.
fn list_of_sections(text: &str) -> Option<DeValue<'_>> {
    if !text.starts_with('{') {
        return None;
    }
    let sections = split_at_commas(text).into_iter().map(|part| {
        let section = DeValue::parse(part.trim()).ok()?;
        section.get_ref().is_table().then_some(section)
    });
    Some(DeValue::Array(sections.collect::<Option<DeArray<'_>>>()?))
}

fn put_at<'v>(
    document: &mut DeTable<'v>,
    path: &str,
    place: &Range<usize>,
    value: DeValue<'v>,
    problems: &mut Problems<'_>,
) {
    let mut names: Vec<String> = Vec::new();
    for part in path.split('.') {
        match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) if index.parse::<usize>().is_ok() => {
                names.extend([name.to_owned(), format!("[{index}]")]);
            }
            _ => names.push(part.to_owned()),
        }
    }
    let mut value = moved_to(place, value);
    let Some(first) = names.first().cloned() else {
        return;
    };
    for name in names.into_iter().skip(1).rev() {
        let mut table = DeTable::new();
        table.insert(Spanned::new(place.clone(), DeString::Owned(name)), value);
        value = Spanned::new(place.clone(), DeValue::Table(table));
    }
    let first = Spanned::new(place.clone(), DeString::Owned(first));
    put(document, first, value, problems);
}

/// Sections whose keys all are `[0]`, `[1]`, … as the lists they were.
fn lists_in(document: DeTable<'_>) -> DeTable<'_> {
    document
        .into_iter()
        .map(|(key, value)| (key, list_in(value)))
        .collect()
}

fn list_in(value: Spanned<DeValue<'_>>) -> Spanned<DeValue<'_>> {
    let place = value.span();
    let value = match value.into_inner() {
        DeValue::Table(table) => {
            let table = lists_in(table);
            let index = |key: &Spanned<DeString<'_>>| -> Option<usize> {
                key.get_ref().strip_prefix('[')?.strip_suffix(']')?.parse().ok()
            };
            let indices: Option<Vec<usize>> = table.keys().map(index).collect();
            match indices {
                Some(indices) if !indices.is_empty() => {
                    let mut entries: Vec<_> = indices.into_iter().zip(table).collect();
                    entries.sort_by_key(|(index, _)| *index);
                    let entries = entries.into_iter().map(|(_, (_, value))| value);
                    DeValue::Array(entries.collect::<DeArray<'_>>())
                }
                _ => DeValue::Table(table),
            }
        }
        other => other,
    };
    Spanned::new(place, value)
}

#[cfg(test)]
mod tests;
