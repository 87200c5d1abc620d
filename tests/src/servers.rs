//! Real servers inside a namespace: nginx, PostgreSQL, Redis. Each ends when it is dropped.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::netns::Netns;
use crate::traffic::connect;
use crate::witness::eventually;

/// What a database takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server's process.
pub struct Daemon {
    child: Child,
    /// How it is asked to end.
    signal: Signal,
}

impl Daemon {
    fn start(netns: &Netns, command: &mut Command, signal: Signal) -> Result<Daemon> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Daemon { child: netns.spawn(command)?, signal })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn end(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a pid")?;
        kill_process(pid, self.signal)?;
        eventually("the end of a server", Duration::from_secs(15), || {
            Ok(self.child.try_wait()?.map(drop))
        })
    }
}

impl Drop for Daemon {
    /// Asked to end, not killed: the workers of some would outlive their master.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) && self.end().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn listens(netns: &Netns, port: u16) -> Result<()> {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    eventually(&format!("a listener at :{port}"), PATIENCE, || Ok(connect(netns, addr).ok()))
        .map(drop)
}

/// A folder that servers which are other users can use.
fn folder() -> Result<TempDir> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// nginx on a loopback port, with one page, `/index.html`; it closes idle connections after `keepalive`
/// (as nginx writes times).
///
/// # Errors
/// When it does not start.
pub fn nginx(netns: &Netns, port: u16, keepalive: &str) -> Result<(Daemon, TempDir)> {
    let dir = folder()?;
    let path = |name: &str| dir.path().join(name);
    fs::write(path("index.html"), vec![b'x'; 3_000])?;
    fs::write(
        path("nginx.conf"),
        format!(
            "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; keepalive_timeout {keepalive}; keepalive_requests 1000000;
                client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
                uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
                server {{ listen 127.0.0.1:{port}; root {dir}; }}
            }}",
            dir = dir.path().display()
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path("nginx.conf"));
    let daemon = Daemon::start(netns, &mut command, Signal::TERM)?;
    listens(netns, port)?;
    Ok((daemon, dir))
}

/// Redis on a loopback port.
///
/// # Errors
/// When it does not start.
pub fn redis(netns: &Netns, port: u16, options: &[&str]) -> Result<Daemon> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).args(options);
    let daemon = Daemon::start(netns, &mut command, Signal::TERM)?;
    listens(netns, port)?;
    Ok(daemon)
}

/// Where Debian has PostgreSQL's own programs.
const POSTGRES: &str = "/usr/lib/postgresql";

/// A PostgreSQL cluster of its own.
pub struct Postgres {
    dir: TempDir,
    programs: PathBuf,
    port: u16,
    /// Settings that it does not have by default.
    settings: Vec<String>,
    daemon: Option<Daemon>,
}

impl Postgres {
    /// Whether there is one on this machine; says so when there is none.
    #[must_use]
    pub fn ready() -> bool {
        let there = programs().is_ok();
        if !there {
            println!("skipped: needs PostgreSQL's server in {POSTGRES}");
        }
        there
    }

    /// Makes a cluster and starts it on a loopback port.
    ///
    /// # Errors
    /// When it cannot be made, or does not start.
    pub fn start(netns: &Netns, port: u16) -> Result<Postgres> {
        Self::start_with(netns, port, &[])
    }

    /// The same, with settings of one's own: `idle_session_timeout=20s`.
    ///
    /// # Errors
    /// When it cannot be made, or does not start.
    pub fn start_with(netns: &Netns, port: u16, settings: &[&str]) -> Result<Postgres> {
        let settings = settings.iter().map(ToString::to_string).collect();
        let programs = programs()?;
        let mut server = Postgres { dir: folder()?, programs, port, settings, daemon: None };
        let data = server.data();
        fs::create_dir(&data)?;
        let owner = Command::new("chown").arg("postgres").arg(&data).status()?;
        ensure!(owner.success(), "chown: {owner}");
        let mut initdb = server.command("initdb");
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data);
        let made = initdb.output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.start_again(netns)?;
        Ok(server)
    }

    /// Starts it, after it was stopped.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self, netns: &Netns) -> Result<()> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        command.args(["-h", "127.0.0.1", "-c", "max_connections=300", "-c", "fsync=off"]);
        command.args(["-c", "unix_socket_directories="]);
        command.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        // SIGINT is its fast shutdown: it ends its clients' connections.
        self.daemon = Some(Daemon::start(netns, &mut command, Signal::INT)?);
        listens(netns, self.port)
    }

    /// Stops it; its clients' connections are ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.end())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        // It refuses to be root.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(self.programs.join(program)).current_dir("/");
        command
    }
}

fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir(Path::new(POSTGRES)).context(POSTGRES)?;
    let with_server = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let mut found: Vec<PathBuf> =
        with_server.filter(|bin| bin.join("postgres").is_file()).collect();
    found.sort();
    found.pop().with_context(|| format!("no server in {POSTGRES}"))
}
