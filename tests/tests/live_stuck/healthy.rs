//! A healthy busy service: nothing is found, with the default thresholds.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::web::{Daemon, Kind, TOOLS, Web};

use crate::stage::{silent, start};

/// wrk through haproxy to nginx for two minutes, connections that are kept and connections for one
/// request, at a pace that leaves the machine to others.
#[test]
fn two_minutes_of_wrk_through_haproxy_to_nginx_are_silent() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let web = Web::start(&netns, Kind::Http)?;
    // Each connection waits this long before each request, milliseconds.
    fs::write(web.path("pace.lua"), "function delay() return 40 end\n")?;
    let stuck = start(&netns, &[])?;
    let wrk = |more: &[&str]| {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c12", "-d120s", "-s"]).arg(web.path("pace.lua")).args(more);
        wrk.arg(Web::url()).stdout(Stdio::null());
        Daemon::spawn(&netns, &mut wrk)
    };
    let keeps = wrk(&[])?;
    let closes = wrk(&["-H", "Connection: close"])?;
    for mut load in [keeps, closes] {
        let status = load.0.wait()?;
        ensure!(status.success(), "wrk: {status}");
    }
    silent(stuck)
}
