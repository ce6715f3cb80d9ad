//! MeshClient for authors of blvm-node modules.
