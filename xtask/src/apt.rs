//! Debian's packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{as_root, find, is_root, must, quietly};

/// Whether apt offers all of `packages`, after fetching its lists if it seems not to.
pub(crate) fn apt_offers(packages: &[&str]) -> bool {
    if find("apt-get").is_none() {
        return false;
    }
    let offered = || {
        let mut policy = Command::new("apt-cache");
        policy.args(["policy"]).args(packages).env("LC_ALL", "C");
        candidates(&quietly(&mut policy).unwrap_or_default()) == packages.len()
    };
    if offered() {
        return true;
    }
    if may_use_apt().is_err() {
        return false;
    }
    fetch_lists();
    offered()
}

/// How many packages have an installable version, in what `apt-cache policy` prints.
fn candidates(policy: &str) -> usize {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .count()
}

/// Installs packages, as root. apt's lists may be older than what the mirrors still have, and then one package that is not
/// found keeps all from being installed: a second try has new lists.
pub(crate) fn apt_install(packages: &[&str], purpose: &str) -> Result<()> {
    may_use_apt()?;
    eprintln!("xtask: installing with apt-get, for {purpose}: {}", packages.join(" "));
    let mut install = apt();
    // --no-remove: where a package here conflicts with one of the user's, fail and let them choose.
    install.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
    if install.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    fetch_lists();
    must(&mut install, "install packages", "run it by hand and see what apt-get says")
}

fn fetch_lists() {
    eprintln!("xtask: fetching apt's package lists");
    // Its failure shows in what is offered afterwards.
    let _ = apt().arg("update").status();
}

/// apt-get as root. The variable goes through `env`, since sudo drops it.
fn apt() -> Command {
    let mut apt = as_root("env");
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    // Another may be at work.
    apt.args(["-o", "DPkg::Lock::Timeout=300"]);
    apt
}

fn may_use_apt() -> Result<()> {
    if is_root() || find("sudo").is_some() {
        return Ok(());
    }
    bail!("apt-get needs root and there is no sudo: run `cargo xtask setup --tests` as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_without_a_version_do_not_count() {
        let policy = "a:\n  Installed: (none)\n  Candidate: 1.0\nb:\n  Candidate: (none)\n";
        assert_eq!(candidates(policy), 1);
    }
}
