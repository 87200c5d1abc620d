//! Network namespaces of a test's own.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::process::{Command, Output, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io::Write, thread};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with loopback up, removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    inode: u32,
}

impl Netns {
    /// A new one, with a name nobody else has.
    ///
    /// # Errors
    /// When `ip` cannot make it.
    pub fn new() -> Result<Netns> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tt-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        let path = format!("/run/netns/{name}");
        let inode = fs::metadata(&path).with_context(|| path)?.ino();
        let made = Netns { name, inode: u32::try_from(inode)? };
        made.ip(&["link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Its name, as `--netns` takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, as `netns` in tcptrail's lines.
    #[must_use]
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Runs `work` on a thread inside. Sockets made there stay there wherever they are used.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` fails.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let inside = || {
            let path = format!("/run/netns/{}", self.name);
            let file = File::open(&path).with_context(|| path)?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs a command inside and waits for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        self.run(move || {
            command.stdin(Stdio::null());
            command.output().with_context(|| format!("{command:?}"))
        })
    }

    /// Starts a command inside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<std::process::Child> {
        self.run(|| command.spawn().with_context(|| format!("{command:?}")))
    }

    /// `ip ARGS` inside.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(args);
        ip(&all)
    }

    /// Sets `net.…` inside, for instance `ipv4/tcp_fin_timeout`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| fs::write(&path, value).with_context(|| path.clone()))
    }

    /// Loads firewall rules inside, in the language of `nft -f`.
    ///
    /// # Errors
    /// When `nft` refuses them.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.run(|| {
            let mut nft = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("nft")?;
            nft.stdin.take().context("a pipe")?.write_all(rules.as_bytes())?;
            let output = nft.wait_with_output()?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "nft: {errors}\n{rules}");
            Ok(())
        })
    }

    /// Loses the first `times` segments that arrive and fulfil `rule`: after the sender has sent
    /// them, before TCP gets them.
    ///
    /// # Errors
    /// When `nft` refuses it.
    pub fn lose_first(&self, times: u32, rule: &str) -> Result<()> {
        // One token a week, and `times` to begin with.
        self.nft(&format!(
            "table inet loss {{
                chain arriving {{
                    type filter hook input priority 0; policy accept;
                    {rule} limit rate 1/week burst {times} packets drop
                }}
            }}"
        ))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // What is left is seen in `ip netns`; a test's outcome does not turn on it.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("ip")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {errors}", args.join(" "));
    Ok(())
}

/// Two namespaces joined by a veth pair: [`Pair::LEFT`] and [`Pair::RIGHT`], and the same in IPv6.
#[derive(Debug)]
pub struct Pair {
    /// Has [`Pair::LEFT`].
    pub left: Netns,
    /// Has [`Pair::RIGHT`].
    pub right: Netns,
}

impl Pair {
    /// IPv4 address of the left end.
    pub const LEFT: &'static str = "10.77.0.1";
    /// IPv4 address of the right end.
    pub const RIGHT: &'static str = "10.77.0.2";
    /// IPv6 address of the left end.
    pub const LEFT6: &'static str = "fd00:77::1";
    /// IPv6 address of the right end.
    pub const RIGHT6: &'static str = "fd00:77::2";

    /// Two new ones, joined.
    ///
    /// # Errors
    /// When `ip` cannot make them.
    pub fn new() -> Result<Pair> {
        let pair = Pair { left: Netns::new()?, right: Netns::new()? };
        let right = pair.right.name.as_str();
        pair.left
            .ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", right])?;
        for (netns, v4, v6) in
            [(&pair.left, Self::LEFT, Self::LEFT6), (&pair.right, Self::RIGHT, Self::RIGHT6)]
        {
            netns.ip(&["addr", "add", &format!("{v4}/24"), "dev", "eth0"])?;
            netns.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
            netns.ip(&["link", "set", "eth0", "up"])?;
        }
        Ok(pair)
    }
}
