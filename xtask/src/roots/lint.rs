//! What lintian and rpmlint say of the packages.

use std::process::Command;

use anyhow::Result;

use super::{Files, Row};
use crate::command::{must, root};

const REMEDY: &str = "mend what it names, or name it with its reason in packaging/";

/// Fails on anything but what `packaging/` names with its reason.
pub(super) fn run(release: &Files) -> Result<Row> {
    let mut row = Row::new("packages", "lintian, rpmlint");
    let mut lintian = Command::new("lintian");
    // It complains of root, who has to run this.
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(&release.deb);
    must(&mut lintian, "find the .deb clean", REMEDY)?;
    row.step("lintian", "clean but for packaging/lintian-overrides");
    let mut rpmlint = Command::new("rpmlint");
    rpmlint
        .arg("--strict")
        .arg("--config")
        .arg(root().join("packaging/rpmlint.toml"))
        .arg(&release.rpm);
    must(&mut rpmlint, "find the .rpm clean", REMEDY)?;
    row.step("rpmlint", "clean but for packaging/rpmlint.toml");
    Ok(row)
}
