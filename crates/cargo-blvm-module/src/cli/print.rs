//! What the commands say.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use crate::inspect::Report;
use crate::node::NodeDirs;
use crate::source::Source;
use crate::store::{Outcome, Removed};

/// Warnings go to the standard error, as they happen.
pub(super) fn warnings(warnings: &[String]) {
    for warning in warnings {
        // A warning that nobody can see is no reason to stop.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
}

/// After `install`, `upgrade` and `rollback`: what is there now, and what the node needs to be told.
pub(super) fn placed(
    node: &NodeDirs,
    report: &Report,
    outcome: &Outcome,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (name, version) = (&report.name, report.version.as_deref().unwrap_or_default());
    let folder = node.modules_dir.join(name);
    let call = match outcome {
        Outcome::Same => {
            writeln!(
                out,
                "{name} {version} is installed already, and whole: {}",
                folder.display()
            )?;
            return Ok(());
        }
        Outcome::Placed {
            replaced: Some(replaced),
            ..
        } => {
            writeln!(out, "{name} {replaced} -> {version} in {}", folder.display())?;
            "reloadmodule"
        }
        Outcome::Placed { replaced: None } => {
            writeln!(out, "{name} {version} is installed in {}", folder.display())?;
            "loadmodule"
        }
    };
    if let Some(sha256) = &report.sha256 {
        writeln!(out, "  program SHA-256 {sha256}")?;
    }
    if report.previous.is_some() {
        writeln!(out, "  back to what was there: cargo blvm-module rollback {name}")?;
    }
    if let Some(obstacle) = node
        .loading
        .as_ref()
        .and_then(|loading| loading.obstacle(name, version))
    {
        writeln!(out, "  {obstacle}")?;
    }
    writeln!(
        out,
        "  a running node was not touched: restart it, or call its JSON-RPC {call} [\"{name}\"]"
    )
}

/// After `remove`.
pub(super) fn removed(
    node: &NodeDirs,
    name: &str,
    removed: Option<&Removed>,
    purged: Option<&Path>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(removed) = removed {
        let version = removed
            .version
            .as_deref()
            .unwrap_or("(of an unreadable manifest)");
        writeln!(
            out,
            "{name} {version} is removed from {}",
            node.modules_dir.display()
        )?;
        for left in &removed.left {
            writeln!(out, "  left, because it is yours: {}", left.display())?;
        }
        writeln!(
            out,
            "  a running node was not touched: restart it, or call its JSON-RPC unloadmodule [\"{name}\"]"
        )?;
    }
    match (purged, &node.data_dir) {
        (Some(purged), _) => writeln!(out, "  its data is gone: {}", purged.display()),
        (None, Some(data)) => writeln!(out, "  its data stays: {}", data.join(name).display()),
        (None, None) => writeln!(out, "  its data stays"),
    }
}

/// `list`.
pub(super) fn list(node: &NodeDirs, reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    if reports.is_empty() {
        return writeln!(out, "no modules in {}", node.modules_dir.display());
    }
    let width = |of: &dyn Fn(&Report) -> usize| reports.iter().map(of).max().unwrap_or_default();
    let names = width(&|report| report.name.chars().count());
    let versions = width(&|report| version(report).chars().count());
    for report in reports {
        let state = if report.faults.is_empty() {
            "whole  "
        } else {
            "FAULTY "
        };
        let source = source(report.source.as_ref());
        writeln!(
            out,
            "{:names$}  {:versions$}  {state} {source}",
            report.name,
            version(report)
        )?;
    }
    Ok(())
}

/// Where a module came from.
pub(super) fn source(source: Option<&Source>) -> String {
    source.map_or_else(|| "files put there by hand".to_owned(), ToString::to_string)
}

fn version(report: &Report) -> &str {
    report.version.as_deref().unwrap_or("?")
}

/// `verify`.
pub(super) fn verified(node: &NodeDirs, reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    if reports.is_empty() {
        return writeln!(out, "no modules in {}", node.modules_dir.display());
    }
    for report in reports {
        let state = if report.faults.is_empty() {
            "whole"
        } else {
            "FAULTY"
        };
        writeln!(out, "{} {}: {state}", report.name, version(report))?;
        for fault in &report.faults {
            writeln!(out, "  fault: {fault}")?;
        }
        for warning in &report.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        if let Some(obstacle) = obstacle(node, report) {
            writeln!(out, "  note: {obstacle}")?;
        }
    }
    Ok(())
}

/// `list --json` and `verify --json`: one object.
pub(super) fn json(node: &NodeDirs, reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let modules: Vec<serde_json::Value> = reports
        .iter()
        .map(|report| {
            json!({
                "name": report.name,
                "version": report.version,
                "whole": report.faults.is_empty(),
                "program": report.program,
                "sha256": report.sha256,
                "source": report.source,
                "previous": report.previous,
                "faults": report.faults,
                "warnings": report.warnings,
                "not_loaded_at_start": obstacle(node, report),
            })
        })
        .collect();
    writeln!(
        out,
        "{}",
        json!({"modules_dir": node.modules_dir, "modules": modules})
    )
}

fn obstacle(node: &NodeDirs, report: &Report) -> Option<String> {
    node.loading.as_ref()?.obstacle(&report.name, version(report))
}
