//! The bill of materials (CycloneDX), by cargo-cyclonedx.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Release;
use crate::command::root;
use crate::setup;

/// Writes `tcptrail-VERSION.cdx.json`.
pub(super) fn write(release: &Release) -> Result<()> {
    let name = "tcptrail-sbom";
    let mut cyclonedx = Command::new(setup::cargo_tool("cargo-cyclonedx", "0.5.9")?);
    cyclonedx.args(["cyclonedx", "--manifest-path", "tracer/Cargo.toml", "--format", "json"]);
    cyclonedx.args(["--target", "x86_64-unknown-linux-musl", "--override-filename", name]);
    release.run(&mut cyclonedx, "write the bill of materials")?;
    // It writes one beside each manifest of the workspace.
    let mut found = None;
    for package in ["tracer", "tracer-common", "xtask", "tests"] {
        let path = root().join(package).join(format!("{name}.json"));
        if path.is_file() {
            let text = fs::read_to_string(&path)?;
            fs::remove_file(&path)?;
            found = found.or_else(|| (package == "tracer").then_some(text));
        }
    }
    let text = found.context("cargo-cyclonedx wrote no bill of materials for tracer")?;
    // References to the workspace's own packages have this machine's path in them.
    let text = text.replace(&*root().to_string_lossy(), "/tcptrail");
    let mut bill: Value =
        serde_json::from_str(&text).context("the bill of materials is no JSON")?;
    if let Some(bill) = bill.as_object_mut() {
        // A random number: the same commit is to give the same bytes.
        bill.remove("serialNumber");
    }
    let to = release.out.join(format!("tcptrail-{}.cdx.json", release.version));
    fs::write(&to, serde_json::to_vec_pretty(&bill)?)
        .with_context(|| format!("cannot write {}", to.display()))
}
