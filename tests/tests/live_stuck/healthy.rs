//! A healthy busy service: nothing is found, with the default thresholds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::netns::Netns;
use tests::ready;
use tests::traffic::connect;
use tests::witness::eventually;

use crate::stage::{silent, start};

/// Ended when dropped.
pub(crate) struct Daemon(pub(crate) Child);

impl Drop for Daemon {
    /// Asked to end, not killed: nginx's workers would outlive their master.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = eventually("the end of a daemon", Duration::from_secs(5), || {
            Ok(self.0.try_wait()?.map(drop))
        });
        if ended.is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

const FRONT: u16 = 8080;
const BACK: u16 = 8081;

/// wrk through haproxy to nginx for two minutes, connections that are kept and connections for one
/// request, at a pace that leaves the machine to others.
#[test]
fn two_minutes_of_wrk_through_haproxy_to_nginx_are_silent() -> Result<()> {
    if !ready(&["haproxy", "nginx", "wrk"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    // nginx's workers are another user's.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let path = |name: &str| dir.path().join(name);
    fs::write(path("index.html"), vec![b'x'; 3_000])?;
    fs::write(
        path("nginx.conf"),
        format!(
            "daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/error.log;
            events {{ worker_connections 4096; }}
            http {{
                access_log off;
                client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
                uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
                server {{ listen 127.0.0.1:{BACK}; root {dir}; }}
            }}",
            dir = dir.path().display()
        ),
    )?;
    fs::write(
        path("haproxy.cfg"),
        format!(
            "global
                maxconn 4096
            defaults
                mode http
                timeout connect 5s
                timeout client 20s
                timeout server 20s
            frontend front
                bind 127.0.0.1:{FRONT}
                default_backend back
            backend back
                server nginx 127.0.0.1:{BACK}\n"
        ),
    )?;
    // Each connection waits this long before each request, milliseconds.
    fs::write(path("pace.lua"), "function delay() return 40 end\n")?;
    let spawn = |command: &mut Command| {
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
        netns.spawn(command).map(Daemon)
    };
    let _nginx = spawn(Command::new("nginx").arg("-c").arg(path("nginx.conf")))?;
    let _haproxy = spawn(Command::new("haproxy").args(["-db", "-f"]).arg(path("haproxy.cfg")))?;
    for port in [BACK, FRONT] {
        eventually(&format!("a listener at :{port}"), Duration::from_secs(10), || {
            Ok(connect(&netns, ([127, 0, 0, 1], port).into()).ok())
        })?;
    }
    let stuck = start(&netns, &[])?;
    let wrk = |more: &[&str]| {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c12", "-d120s", "-s"]).arg(path("pace.lua")).args(more);
        wrk.arg(format!("http://127.0.0.1:{FRONT}/index.html"));
        spawn(&mut wrk)
    };
    let keeps = wrk(&[])?;
    let closes = wrk(&["-H", "Connection: close"])?;
    for mut load in [keeps, closes] {
        let status = load.0.wait()?;
        ensure!(status.success(), "wrk: {status}");
    }
    silent(stuck)
}
