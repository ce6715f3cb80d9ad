//! Test vectors as PROTOCOL.md writes them.

/// Names and values in the order they are written.
#[derive(Default)]
pub(crate) struct Vectors(Vec<(&'static str, String)>);

impl Vectors {
    pub(crate) fn add(&mut self, name: &'static str, value: impl AsRef<[u8]>) {
        self.0.push((name, hex::encode(value)));
    }

    /// Compares with the section of the document that is marked with `section`.
    pub(crate) fn assert_written(&self, section: &str) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../PROTOCOL.md");
        let document = std::fs::read_to_string(path).unwrap();
        let begin = format!("<!-- vectors: {section} -->\n```text\n");
        let written = document
            .split_once(&begin)
            .and_then(|(_, rest)| rest.split_once("```"))
            .map(|(block, _)| block)
            .unwrap_or_default();
        let expected: String = self.0.iter().map(line).collect();
        assert_eq!(
            written, expected,
            "PROTOCOL.md should read:\n{begin}{expected}```"
        );
    }
}

/// One vector as it is written: the name, then the value in lines of 48 bytes.
fn line((name, value): &(&'static str, String)) -> String {
    let chunks: Vec<&str> = (0..value.len())
        .step_by(96)
        .map(|at| &value[at..value.len().min(at + 96)])
        .collect();
    format!("{name}\n    {}\n", chunks.join("\n    "))
}
