//! `doctor`, by what must be so in any kernel.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::tcptrail::command;
use tests::{kernel, ready};

/// What a kernel lacks is one thing; a program that its verifier does not take is our mistake.
#[test]
fn no_verifier_refuses_a_program() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let output = command(&["doctor", "--json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {text}", output.status);
    let mut names = Vec::new();
    for line in text.lines() {
        let check: Value = serde_json::from_str(line)?;
        let word = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        ensure!(!word("detail").contains("verifier"), "{line}");
        ensure!(check["ok"] == true || check["required"] == false, "{line}");
        names.push(word("name"));
    }
    let has = |name: &str| names.iter().any(|one| one == name);
    ensure!(has("an event arrives") && has("iter/tcp"), "{names:?}");
    ensure!(has("socket cookies") == (kernel() < (5, 12)), "{names:?}");
    // Stacks are not tried where a thread cannot be told its own task.
    ensure!(has("stacks: fexit/inet_csk_accept") || kernel() < (5, 11), "{names:?}");
    Ok(())
}
