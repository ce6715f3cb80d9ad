//! Reads a TOML file so that whatever is wrong with it is said with its line, all of it at once.
//!
//! A [`Section`] wraps one table. Each key is asked for by name; what was asked for is remembered, so that at
//! [`Section::finish`] every key that nobody asked for is refused, with the nearest known name as a suggestion. A key
//! that is silently ignored is a limit the operator believes to be set.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layers::{FLAT_KEYS, canonical};
use super::variables::{self, Variable};

/// Longest excerpt of a wrong value that is repeated to the operator, in characters.
const SHOWN_CHARS: usize = 60;

/// How many letters may be wrong, missing or too many for a name to be suggested.
const SUGGESTION_DISTANCE: usize = 2;

/// Problems reported from one file: an operator mends a handful at a time, and a megabyte of garbage must not become
/// a megabyte of messages.
const MAX_PROBLEMS: usize = 20;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this line of the file, counted from 1.
    Line(usize),
    /// In the environment variable of this name.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "on line {line}"),
            Self::Variable(name) => write!(f, "in {name}"),
        }
    }
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What is wrong, why, and what to do.
    pub what: String,
}

/// The problems found so far, and what they are in: the text of the file, and after its end one offset for each
/// environment variable, so that a single number says where any value came from.
pub(super) struct Problems<'d> {
    text: &'d str,
    variables: &'d [Variable],
    found: Vec<Problem>,
}

impl<'d> Problems<'d> {
    pub(super) fn new(text: &'d str, variables: &'d [Variable]) -> Self {
        Self {
            text,
            variables,
            found: Vec::new(),
        }
    }

    /// Notes a problem at an offset.
    pub(super) fn add(&mut self, offset: usize, what: impl Into<String>) {
        if self.found.len() < MAX_PROBLEMS {
            let place = self.place(offset);
            self.found.push(Problem {
                place,
                what: what.into(),
            });
        }
    }

    /// What an offset stands for.
    pub(super) fn place(&self, offset: usize) -> Place {
        if let Some(variable) = self.variable(offset) {
            return Place::Variable(variable.name.clone());
        }
        let before = self.text.as_bytes().iter().take(offset);
        Place::Line(before.filter(|byte| **byte == b'\n').count() + 1)
    }

    /// The offset that stands for the variable with this index.
    pub(super) fn offset_of(&self, variable: usize) -> usize {
        // One more than the text is long: the end of the text is a place in the file.
        self.text.len() + 1 + variable
    }

    fn variable(&self, offset: usize) -> Option<&'d Variable> {
        self.variables.get(offset.checked_sub(self.text.len() + 1)?)
    }

    /// All problems in the order of their lines.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort();
        self.found
    }

    /// The source of a value, short enough to repeat. Of a variable only the value in question: it may carry a whole
    /// section, and a secret beside it.
    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        let span = value.span();
        let written;
        let source = if self.variable(span.start).is_some() {
            written = canonical(value.get_ref());
            &written
        } else {
            self.text.get(span).unwrap_or_default()
        };
        let mut shown: String = source
            .chars()
            .take_while(|c| *c != '\n')
            .take(SHOWN_CHARS)
            .collect();
        if shown.len() < source.len() {
            shown.push('…');
        }
        shown
    }
}

/// A value with its place, so that what contradicts it elsewhere can be reported at its line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) offset: usize,
}

/// One table, read key by key.
pub(super) struct Section<'d> {
    name: &'static str,
    table: Option<&'d DeTable<'d>>,
    /// Where the table begins.
    pub(super) offset: usize,
    asked: Vec<&'static str>,
}

impl<'d> Section<'d> {
    /// The whole file. Its keys are the names of sections.
    pub(super) fn root(document: &'d DeTable<'d>) -> Self {
        Self {
            name: "",
            table: Some(document),
            offset: 0,
            asked: Vec::new(),
        }
    }

    /// The table under `key`, empty when absent; `name` is how messages call it (`mesh.limits`).
    pub(super) fn section(
        &mut self,
        key: &'static str,
        name: &'static str,
        problems: &mut Problems<'_>,
    ) -> Section<'d> {
        let (table, offset) = match self.find(key) {
            None => (None, self.offset),
            Some((at, value)) => {
                let table = value.get_ref().as_table();
                if table.is_none() {
                    let what = format!(
                        "`{key}` must be a section; write `[{name}]` on a line of its own and the keys below it"
                    );
                    problems.add(at.start, what);
                }
                (table, at.start)
            }
        };
        Section {
            name,
            table,
            offset,
            asked: Vec::new(),
        }
    }

    /// The tables under `[[name]]`, none when absent.
    pub(super) fn sections(
        &mut self,
        key: &'static str,
        name: &'static str,
        problems: &mut Problems<'_>,
    ) -> Vec<Section<'d>> {
        let Some((at, value)) = self.find(key) else {
            return Vec::new();
        };
        let wrong = format!("`{key}` must be a list of sections; write `[[{name}]]` above the keys of each");
        let Some(array) = value.get_ref().as_array() else {
            problems.add(at.start, wrong);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for entry in array.iter() {
            match entry.get_ref().as_table() {
                None => problems.add(entry.span().start, wrong.clone()),
                Some(table) => sections.push(Section {
                    name,
                    table: Some(table),
                    offset: entry.span().start,
                    asked: Vec::new(),
                }),
            }
        }
        sections
    }

    /// The value of `key` as `read` understands it; `None` when it is absent or wrong. `read` answers what was
    /// expected instead.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let (_, value) = self.find(key)?;
        let offset = value.span().start;
        let understood = read(value.get_ref()).or_else(|expected| {
            let variable = problems.variable(offset).and(value.get_ref().as_str());
            let other = variable.and_then(|text| variables::other_readings(text, &read));
            other.ok_or(expected)
        });
        match understood {
            Ok(value) => Some(Located { value, offset }),
            Err(expected) => {
                let shown = problems.shown(value);
                let section = self.place();
                problems.add(offset, format!("`{key} = {shown}`{section}: expected {expected}"));
                None
            }
        }
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        if self.find(key).is_none() {
            problems.add(self.offset, format!("`{key}` is missing{}; add it", self.place()));
        }
        self.value(key, problems, read)
    }

    /// A text that is never repeated in a message, whatever is wrong with it.
    pub(super) fn secret(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Located<String>> {
        let (_, value) = self.find(key)?;
        let offset = value.span().start;
        match value.get_ref().as_str().filter(|text| !text.trim().is_empty()) {
            Some(text) => Some(Located {
                value: text.trim().to_owned(),
                offset,
            }),
            None => {
                let section = self.place();
                problems.add(
                    offset,
                    format!("`{key}`{section}: expected a text in double quotes"),
                );
                None
            }
        }
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(self, problems: &mut Problems<'_>) {
        let Some(table) = self.table else { return };
        let also = if self.name.is_empty() { FLAT_KEYS } else { &[] };
        let known = [self.asked.as_slice(), also].concat();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let shown: String = name.chars().take(SHOWN_CHARS).collect();
            let shown = shown.escape_debug();
            let advice = match nearest(name, &known) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let kind = if value.get_ref().is_table() {
                "section"
            } else {
                "key"
            };
            problems.add(
                key.span().start,
                format!("unknown {kind} `{shown}`{}; {advice}", self.place()),
            );
        }
    }

    fn place(&self) -> String {
        match self.name {
            "" => String::new(),
            name => format!(" in [{name}]"),
        }
    }

    fn find(&mut self, key: &'static str) -> Option<(Range<usize>, &'d Spanned<DeValue<'d>>)> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let (found, value) = self.table?.get_key_value(key)?;
        Some((found.span(), value))
    }
}

/// Reads `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| "true or false, without quotes".into())
}

/// Reads a whole number from `range`; `unit` is what it counts.
pub(super) fn number(
    range: std::ops::RangeInclusive<u64>,
    unit: &'static str,
) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        value
            .as_integer()
            .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("a whole number of {unit} from {least} to {most}, without quotes")
            })
    }
}

/// Reads a text through `parse`, whose error says what was expected.
pub(super) fn text<T, E: fmt::Display>(
    parse: impl Fn(&str) -> Result<T, E>,
) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let text = value
            .as_str()
            .ok_or_else(|| "a text in double quotes".to_owned())?;
        parse(text).map_err(|error| error.to_string())
    }
}

/// Reads a list of at most `most` texts through `parse`.
pub(super) fn texts<T, E: fmt::Display>(
    most: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> impl Fn(&DeValue<'_>) -> Result<Vec<T>, String> {
    move |value| {
        let list = value
            .as_array()
            .filter(|list| list.len() <= most)
            .ok_or_else(|| format!("a list in square brackets of at most {most} texts"))?;
        list.iter().map(|entry| text(&parse)(entry.get_ref())).collect()
    }
}

/// The known name that `given` is most likely a slip of the pen for.
fn nearest<'n>(given: &str, known: &[&'n str]) -> Option<&'n str> {
    known
        .iter()
        .map(|name| (edit_distance(given, name), *name))
        .filter(|(distance, name)| *distance <= SUGGESTION_DISTANCE && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// The least number of letters to insert, remove or replace to turn one word into the other (Levenshtein). A word much
/// longer than the other is not measured: a foreign key may be as long as the file.
fn edit_distance(left: &str, right: &str) -> usize {
    if left.len().abs_diff(right.len()) > 4 * SUGGESTION_DISTANCE {
        return usize::MAX;
    }
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut beside = i + 1;
        next.push(beside);
        for ((b, diagonal), above) in right.iter().zip(&row).zip(row.iter().skip(1)) {
            beside = (diagonal + usize::from(a != *b)).min(above + 1).min(beside + 1);
            next.push(beside);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edit_distance_counts_the_known_examples() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("lisen_addr", "listen_addr"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn nothing_is_suggested_for_a_word_that_resembles_none() {
        assert_eq!(
            nearest("lisen_addr", &["mode", "listen_addr"]),
            Some("listen_addr")
        );
        assert_eq!(nearest("colour", &["mode", "listen_addr"]), None);
        assert_eq!(nearest("ab", &["cd"]), None, "all letters differ");
    }

    proptest! {
        #[test]
        fn edit_distance_is_symmetric_and_zero_only_for_equals(a in "[a-d]{0,8}", b in "[a-d]{0,8}") {
            prop_assert_eq!(edit_distance(&a, &b), edit_distance(&b, &a));
            prop_assert_eq!(edit_distance(&a, &b) == 0, a == b);
        }
    }
}
