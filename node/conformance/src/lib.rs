//! Nothing but tests: `node-ipc` against the types of the published `blvm-node`, byte for byte.
