//! The kernel's own word on what it drops: its tracepoint, read as text, without BPF.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, id};

use anyhow::{Context, Result, ensure};

/// `skb:kfree_skb` in an instance of tracefs of the test's own. It sees the whole machine, so the drops of other tests
/// are in it, too.
#[derive(Debug)]
pub struct Trace {
    tracefs: tempfile::TempDir,
    instance: PathBuf,
}

impl Trace {
    /// Looks from now on; `None`, with the reason said, where there is no tracefs.
    ///
    /// # Errors
    /// When there is one, and it cannot be used.
    pub fn of_drops() -> Result<Option<Trace>> {
        if !Path::new("/sys/kernel/tracing").is_dir() {
            println!("skipped: the kernel has no tracefs");
            return Ok(None);
        }
        let tracefs = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tracefs", "tracefs"]).arg(tracefs.path());
        let mounted = mount.output().context("mount")?;
        let says = String::from_utf8_lossy(&mounted.stderr);
        ensure!(mounted.status.success(), "tracefs: {says}");
        let instance = tracefs.path().join("instances").join(format!("tcptrail-{}", id()));
        let trace = Trace { tracefs, instance };
        fs::create_dir(&trace.instance).context("an instance")?;
        let event = trace.instance.join("events/skb/kfree_skb");
        // Not those without a reason (NOT_SPECIFIED is 2): there are many.
        fs::write(event.join("filter"), "reason > 2").context("a filter")?;
        fs::write(event.join("enable"), "1").context("the tracepoint")?;
        Ok(Some(trace))
    }

    /// How many packets were dropped for each reason, all over the machine.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn reasons(&self) -> Result<BTreeMap<String, u64>> {
        let text = fs::read_to_string(self.instance.join("trace")).context("the trace")?;
        let mut reasons = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((_, reason)) = line.split_once("reason: ") else { continue };
            *reasons.entry(reason.trim().to_owned()).or_default() += 1;
        }
        Ok(reasons)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::write(self.instance.join("events/skb/kfree_skb/enable"), "0");
        let _ = fs::remove_dir(&self.instance);
        let _ = Command::new("umount").arg(self.tracefs.path()).output();
    }
}
