//! Manifests, as the published node reads them: the guide's for module authors.
#![allow(missing_docs, clippy::unwrap_used)]

use blvm_node::module::registry::manifest::ModuleManifest;
use blvm_node::module::security::permissions::parse_permission_string;
use blvm_node::module::validation::manifest_validator::{ManifestValidator, ValidationResult};

const GUIDE: &str = include_str!("../../../docs/MODULE_AUTHORS.md");

#[test]
fn the_guides_manifest_is_valid_and_the_node_knows_every_capability_in_it() {
    let manifest = GUIDE
        .split("```toml\n")
        .nth(2)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("module.toml");
    std::fs::write(&file, manifest).unwrap();
    let manifest = ModuleManifest::from_file(&file).unwrap();
    assert_eq!(
        manifest.capabilities.len(),
        4,
        "a capability after a table is none"
    );
    for capability in &manifest.capabilities {
        assert!(
            parse_permission_string(capability).is_some(),
            "the node does not know {capability}"
        );
    }
    assert!(matches!(
        ManifestValidator::new().validate(&manifest),
        ValidationResult::Valid
    ));
}
