//! nginx behind haproxy, as people run them, for loads from the front.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::netns::Netns;
use crate::traffic::connect;
use crate::witness::eventually;

/// Where haproxy listens.
pub const FRONT: u16 = 8080;
/// Where nginx listens.
pub const BACK: u16 = 8081;
/// What this needs, with the load's tool.
pub const TOOLS: &[&str] = &["haproxy", "nginx", "wrk"];

/// What haproxy and nginx do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// haproxy speaks HTTP; nobody logs.
    Http,
    /// haproxy forwards bytes; both log each connection or request as `conn port pid received sent whole`, in
    /// `haproxy.log` and `nginx.log`. (In its mode `http` haproxy counts the bytes of its own form of messages,
    /// not those on the wire.)
    Logged,
}

/// A process that is asked to end when dropped, and made to when it does not.
pub struct Daemon(pub Child);

impl Daemon {
    /// Starts it in a namespace; what it prints goes nowhere, unless `command` says where.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(netns: &Netns, command: &mut Command) -> Result<Daemon> {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        netns.spawn(command).map(Daemon)
    }

    /// Ends it by a signal, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        if self.0.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("a pid")?;
        kill_process(pid, signal)?;
        eventually("the end of a daemon", Duration::from_secs(10), || {
            Ok(self.0.try_wait()?.map(drop))
        })
    }
}

impl Drop for Daemon {
    /// Asked to end, not killed: nginx's workers would outlive their master.
    fn drop(&mut self) {
        if self.end(Signal::TERM).is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Both, up and listening.
pub struct Web {
    dir: TempDir,
    /// The proxy.
    pub haproxy: Daemon,
    /// The server, with two workers.
    pub nginx: Daemon,
}

impl Web {
    /// Starts both.
    ///
    /// # Errors
    /// When one of them does not listen.
    pub fn start(netns: &Netns, kind: Kind) -> Result<Web> {
        let dir = tempfile::tempdir()?;
        // nginx's workers are another user's.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let path = |name: &str| dir.path().join(name);
        fs::write(path("index.html"), vec![b'x'; 3_000])?;
        fs::write(path("nginx.conf"), nginx_conf(&dir, kind))?;
        fs::write(path("haproxy.cfg"), haproxy_cfg(kind))?;
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(path("nginx.conf")).stdout(Stdio::null());
        let nginx = Daemon::spawn(netns, &mut nginx)?;
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-db", "-f"]).arg(path("haproxy.cfg"));
        haproxy.stdout(fs::File::create(path("haproxy.log"))?);
        let haproxy = Daemon::spawn(netns, &mut haproxy)?;
        for port in [BACK, FRONT] {
            eventually(&format!("a listener at :{port}"), Duration::from_secs(10), || {
                Ok(connect(netns, ([127, 0, 0, 1], port).into()).ok())
            })?;
        }
        Ok(Web { dir, haproxy, nginx })
    }

    /// A file of theirs: a log.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a load asks for: 3,000 bytes.
    #[must_use]
    pub fn url() -> String {
        format!("http://127.0.0.1:{FRONT}/index.html")
    }
}

fn nginx_conf(dir: &TempDir, kind: Kind) -> String {
    let dir = dir.path().display();
    let (log, listen) = match kind {
        Kind::Http => ("access_log off;".to_owned(), String::new()),
        Kind::Logged => (
            format!(
                "log_format conn 'conn $remote_port $pid $request_length $bytes_sent $request_completion';
                access_log {dir}/nginx.log conn;
                keepalive_requests 30;"
            ),
            " backlog=4096".to_owned(),
        ),
    };
    format!(
        "daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/error.log;
        events {{ worker_connections 4096; }}
        http {{
            {log}
            client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
            uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
            server {{ listen 127.0.0.1:{BACK}{listen}; root {dir}; }}
        }}"
    )
}

fn haproxy_cfg(kind: Kind) -> String {
    let (to, mode, lines) = match kind {
        Kind::Http => ("", "http", ""),
        Kind::Logged => (
            "log stdout format raw local0",
            "tcp\n    log global",
            "log-format \"conn %cp %pid %U %B %ts\"",
        ),
    };
    format!(
        "global
    {to}
    maxconn 4096
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend front
    bind 127.0.0.1:{FRONT}
    {lines}
    default_backend back
backend back
    server nginx 127.0.0.1:{BACK}\n"
    )
}
