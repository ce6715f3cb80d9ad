//! One configuration out of several places: `[mesh]` and its keys at the root of the file, and environment variables.
//!
//! Within a layer nothing goes before anything else: a key that is set twice to different values is refused with both
//! places, because whichever counted, the operator would believe the other. Between layers the environment counts.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::reader::Problems;
use super::variables::{self, Variable};

/// The keys of `[mesh]`, which may stand at the root as well.
pub(super) const FLAT_KEYS: &[&str] = &[
    "peers",
    "limits",
    "max_peers",
    "operator_signature",
    "enabled",
    "mode",
    "listen_addr",
    "data_dir",
    "price_msat_per_unit",
    "network",
    "operator",
    "announce",
    "addresses",
    "route_lifetime_seconds",
    "node_carrier",
];

/// The file and the variables as one document; what is known and has no effect any more is told in `notes`.
pub(super) fn together<'d>(
    mut file: DeTable<'d>,
    variables: &'d [Variable],
    problems: &mut Problems<'_>,
    notes: &mut Vec<String>,
) -> DeTable<'d> {
    lift_flat_keys(&mut file, problems);
    take_former_keys(&mut file, problems, notes);
    let mut over = variables::read(variables, problems);
    lift_flat_keys(&mut over, problems);
    take_former_keys(&mut over, problems, notes);
    lay_over(&mut file, over);
    file
}

/// Puts a value where its path leads; a different one that is there already is a problem of both places.
pub(super) fn put<'d>(
    table: &mut DeTable<'d>,
    key: Spanned<DeString<'d>>,
    value: Spanned<DeValue<'d>>,
    problems: &mut Problems<'_>,
) {
    let name = key.get_ref().to_string();
    let at = value.span();
    match (table.get_mut(name.as_str()), value.into_inner()) {
        (None, value) => {
            table.insert(key, Spanned::new(at, value));
        }
        (Some(there), DeValue::Table(more)) if there.get_ref().is_table() => {
            if let DeValue::Table(there) = there.get_mut() {
                for (key, value) in more {
                    put(there, key, value, problems);
                }
            }
        }
        (Some(there), value) => {
            if canonical(there.get_ref()) != canonical(&value) {
                let other = problems.place(there.span().start);
                problems.add(
                    at.start,
                    format!("`{name}` is also set {other}, to something else; keep one of the two"),
                );
            }
        }
    }
}

/// Values that mean the same in whichever way they were written.
pub(super) fn canonical(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let list: Vec<String> = list.iter().map(|entry| canonical(entry.get_ref())).collect();
            list.join(",")
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
                format!("{} = {}", key.get_ref(), canonical(value.get_ref()))
            };
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// The same value as if all of it stood at `place`.
pub(super) fn moved_to<'d>(place: &Range<usize>, value: DeValue<'d>) -> Spanned<DeValue<'d>> {
    let entry = |entry: Spanned<DeValue<'d>>| moved_to(place, entry.into_inner());
    let value = match value {
        DeValue::Array(list) => DeValue::Array(list.into_iter().map(entry).collect::<DeArray<'_>>()),
        DeValue::Table(table) => {
            let key = |key: Spanned<DeString<'d>>| Spanned::new(place.clone(), key.into_inner());
            DeValue::Table(
                table
                    .into_iter()
                    .map(|(name, value)| (key(name), entry(value)))
                    .collect(),
            )
        }
        plain => plain,
    };
    Spanned::new(place.clone(), value)
}

fn lift_flat_keys(root: &mut DeTable<'_>, problems: &mut Problems<'_>) {
    // A `mesh` that is no section is refused by the reader.
    if root.get("mesh").is_some_and(|mesh| !mesh.get_ref().is_table()) {
        return;
    }
    for key in FLAT_KEYS {
        let Some((key, value)) = root.remove_entry(*key) else {
            continue;
        };
        let at = key.span();
        let mut mesh = DeTable::new();
        mesh.insert(key, value);
        let section = Spanned::new(at.clone(), DeString::Borrowed("mesh"));
        put(root, section, Spanned::new(at, DeValue::Table(mesh)), problems);
    }
}

/// Keys of earlier versions of the module that an existing file may hold.
fn take_former_keys(root: &mut DeTable<'_>, problems: &mut Problems<'_>, notes: &mut Vec<String>) {
    take_former(root, problems, notes);
    if let Some(mesh) = root.get_mut("mesh")
        && let DeValue::Table(mesh) = mesh.get_mut()
    {
        take_former(mesh, problems, notes);
    }
}

fn take_former(table: &mut DeTable<'_>, problems: &mut Problems<'_>, notes: &mut Vec<String>) {
    for key in ["peer_list", "bootstrap_nodes"] {
        let Some((found, value)) = table.remove_entry(key) else {
            continue;
        };
        if !canonical(value.get_ref()).trim().is_empty() {
            problems.add(
                found.span().start,
                format!(
                    "`{key}` names addresses only: whoever answers there would be believed to be the neighbour; write \
                     [[mesh.peers]] with `address` and `node_id` for each, and remove it"
                ),
            );
        }
    }
    if let Some((found, _)) = table.remove_entry("rate_limit_per_minute") {
        let place = problems.place(found.span().start);
        notes.push(format!(
            "rate_limit_per_minute {place} has no effect: packets that are paid for are not limited, and free ones are \
             limited by free_bytes_per_second in [mesh.limits]; remove it"
        ));
    }
    if let Some((found, _)) = table.remove_entry("identity_seed_hex") {
        problems.add(
            found.span().start,
            "`identity_seed_hex`: a secret key does not belong into a configuration; the node's is in identity.key in \
             its data directory (64 hexadecimal digits, mode 0600): put it there, or let the node make one, and remove \
             it here",
        );
    }
}

/// What is in `over` counts.
fn lay_over<'d>(under: &mut DeTable<'d>, over: DeTable<'d>) {
    for (key, value) in over {
        let name = key.get_ref().to_string();
        let at = value.span();
        match (under.get_mut(name.as_str()), value.into_inner()) {
            (Some(there), DeValue::Table(over)) => {
                // What is no section in the file is refused there, whatever the environment says.
                if let DeValue::Table(under) = there.get_mut() {
                    lay_over(under, over);
                }
            }
            (_, value) => {
                under.remove(name.as_str());
                under.insert(key, Spanned::new(at, value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
