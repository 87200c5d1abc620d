//! What tcptrail has to say in any root.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Row;
use super::enter::run;

/// The network namespace that the root is entered with: others on this machine have traffic of their own.
const OWN: &str = "/proc/self/ns/net";

/// Runs `doctor`, `tail` and `stuck` of the tcptrail at `program` in the root.
pub(super) fn all(row: &mut Row, root: &Path, program: &str) -> Result<()> {
    doctor(row, root, program)?;
    tail(row, root, program)?;
    stuck(row, root, program)
}

fn doctor(row: &mut Row, root: &Path, program: &str) -> Result<()> {
    let said = run(root, false, &[program, "doctor"])?;
    ensure!(said.code == Some(0), "{}: doctor: {}", row.root, said.all());
    let last = said.text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    row.step("doctor", last.trim());
    Ok(())
}

/// As many sockets have gone to CLOSE_WAIT as clients have closed meanwhile, give or take those at both ends.
fn tail(row: &mut Row, root: &Path, program: &str) -> Result<()> {
    let args = [program, "tail", "--netns", OWN, "--no-color", "--duration", "3s"];
    let said = run(root, true, &args)?;
    let lines = || said.text.lines();
    let seen = lines()
        .filter(|line| line.contains("ESTABLISHED") && line.contains(" CLOSE_WAIT "))
        .count();
    let named = lines().filter(|line| line.contains("python3[")).count();
    ensure!(
        said.code == Some(0) && (5..=said.made).contains(&(seen as u64)) && named > 0,
        "{}: tail saw {seen} of {} connections reach CLOSE_WAIT: {}",
        row.root,
        said.made,
        said.all()
    );
    let end = said.errors.lines().rfind(|line| line.contains(" lost in ")).unwrap_or_default();
    ensure!(end.contains(" 0 lost "), "{}: tail: {}", row.root, said.all());
    row.step(
        "tail",
        format!("{seen} sockets reached CLOSE_WAIT; {}", end.trim_start_matches("tcptrail: ")),
    );
    Ok(())
}

fn stuck(row: &mut Row, root: &Path, program: &str) -> Result<()> {
    let args = [
        program,
        "stuck",
        "--netns",
        OWN,
        "--once",
        "--duration",
        "4s",
        "--threshold",
        "CLOSE_WAIT=2s",
        "--no-color",
    ];
    let said = run(root, true, &args)?;
    let finding = said.text.lines().find(|line| line.contains("CLOSE_WAIT on :8089"));
    let finding = finding
        .filter(|line| line.starts_with("python3[") && said.code == Some(3))
        .with_context(|| format!("{}: stuck: {}", row.root, said.all()))?;
    row.step("stuck", finding.trim());
    Ok(())
}
