//! What tcptrail may do while it runs, and what it can do with how little.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::tcptrail::{Tcptrail, binary, command, shown};
use tests::traffic::{Both, listen, read_end};
use tests::witness::{eventually, has_cookies, ss};
use tests::{kernel, ready};

/// `nobody`.
const STRANGER: u32 = 65_534;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const NET_ADMIN: u64 = 1 << 12;
/// DAC_READ_SEARCH, SETGID, SETUID, SYS_PTRACE, CHECKPOINT_RESTORE.
const NAMES: u64 = DAC_READ_SEARCH | 1 << 6 | 1 << 7 | SYS_PTRACE | 1 << 40;
const SYS_RESOURCE: u64 = 1 << 24;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// A thread as the kernel describes it.
#[derive(Debug)]
struct Thread {
    name: String,
    /// Permitted, effective, inheritable, ambient and bounding set.
    sets: [u64; 5],
    no_new_privs: bool,
}

fn threads(pid: u32) -> Result<Vec<Thread>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(entry?.path().join("status"))?;
        let find = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.map(str::trim).with_context(|| format!("no {key}"))
        };
        let mut sets = [0; 5];
        for (set, key) in
            sets.iter_mut().zip(["CapPrm:", "CapEff:", "CapInh:", "CapAmb:", "CapBnd:"])
        {
            *set = u64::from_str_radix(find(key)?, 16)?;
        }
        all.push(Thread {
            name: find("Name:")?.to_owned(),
            sets,
            no_new_privs: find("NoNewPrivs:")? == "1",
        });
    }
    Ok(all)
}

/// What the first two threads keep where bpf(2) wants it for every call (`__sys_bpf` before 5.19).
fn for_bpf() -> u64 {
    let disabled = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let disabled = disabled.is_ok_and(|value| value.trim() != "0");
    if disabled && kernel() < (5, 19) { BPF } else { 0 }
}

/// What walks keep to count descriptors where only a list of them tells their number: since 6.2 it is the
/// size of `/proc/PID/fd` (`proc_fd_getattr`).
fn for_descriptors() -> Result<u64> {
    Ok(if fs::metadata("/proc/self/fd")?.len() == 0 { DAC_READ_SEARCH } else { 0 })
}

/// Fails unless every thread has just these, and nobody ever gets more. Without CAP_SETPCAP the
/// bounding set stays what it was.
fn check_threads(pid: u32, main: u64, walks: u64, bounding: Option<u64>) -> Result<()> {
    let threads = threads(pid)?;
    ensure!(threads.len() >= 3, "{threads:?}");
    for thread in &threads {
        let expected = match thread.name.as_str() {
            "tcptrail-poll" => walks | for_bpf(),
            "tcptrail-out" | "tcptrail-file" => 0,
            "tcptrail-names" => NAMES,
            // Only where conntrack is loaded; with one namespace only where there are entries.
            "tcptrail-nat" if walks & SYS_ADMIN == 0 => NET_ADMIN,
            "tcptrail-nat" => SYS_ADMIN | SYS_PTRACE | NET_ADMIN,
            _ => main | for_bpf(),
        };
        let bounding = bounding.unwrap_or(expected);
        ensure!(thread.sets == [expected, expected, 0, 0, bounding], "{expected:x}: {thread:?}");
        ensure!(thread.no_new_privs, "{thread:?}");
    }
    Ok(())
}

#[test]
fn what_is_not_needed_is_given_up() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("r.tcpt");
    let file = file.to_str().context("UTF-8")?;
    let one = ["--netns", netns.name()];
    let walks = SYS_ADMIN | SYS_PTRACE | NET_ADMIN;
    for (args, main, walks) in [
        (vec!["tail"], 0, walks),
        (vec!["life"], 0, walks),
        // With what `stuck` looks at, so that a replay finds it.
        (vec!["tail", "--record", file], 0, walks | for_descriptors()?),
        (vec!["tail", one[0], one[1]], 0, 0),
        (vec!["list", "--watch=1s"], SYS_PTRACE, walks),
        (vec!["list", "--watch=1s", one[0], one[1]], SYS_PTRACE, 0),
    ] {
        let tcptrail = Tcptrail::start(&args)?;
        check_threads(tcptrail.pid(), main, walks, None).with_context(|| format!("{args:?}"))?;
        tcptrail.stop()?.check_good_end()?;
    }
    let leaks = Tcptrail::spawn(command(&["leaks", "--comm", "nobody-has-this"]))?;
    eventually("its threads without what they do not need", Duration::from_secs(30), || {
        let threads = threads(leaks.pid())?;
        let named = threads.iter().any(|thread| thread.name == "tcptrail-names");
        Ok((named && check_threads(leaks.pid(), 0, walks, None).is_ok()).then_some(()))
    })
    .with_context(|| format!("{:?}", threads(leaks.pid())))?;
    Ok(())
}

/// With one namespace it is entered once, for good, though its name goes and nobody else is in it.
#[test]
fn one_namespace_is_walked_without_any_privilege() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let both = Both::new(&netns, &listener, listener.local_addr()?)?;
    let mut tail = Tcptrail::start(&["--netns", netns.name()])?;
    check_threads(tail.pid(), 0, 0, None)?;
    // The end of FIN_WAIT2 is what only a walk tells: the peer's close does not, from outside.
    let ends = both.ends;
    drop(both.client);
    read_end(&both.server)?;
    let local = shown(ends.client);
    tail.wait_for("FIN_WAIT2", |event| {
        event.text("local") == local && event.text("new") == "FIN_WAIT2"
    })?;
    // A walk over mini-sockets keeps it there: one that found nothing twice would end it.
    ensure!(ss(&netns)?.iter().any(|socket| socket.state == "FIN_WAIT2"), "ss");
    drop(both.server);
    tail.wait_for("TIME_WAIT", |event| {
        event.text("local") == local && event.is_step("FIN_WAIT2>TIME_WAIT")
    })?;
    tail.stop()?.check_whole()
}

/// The binary where a stranger can run it.
fn for_strangers(dir: &Path) -> Result<PathBuf> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let copy = dir.join("tcptrail");
    fs::copy(binary(), &copy).context("copy the binary")?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// tcptrail as another user, with these capabilities and no other, and with as much locked memory as it
/// wants: kernels before 5.11 count maps to it.
fn as_stranger(program: &Path, capabilities: &str, args: &[&str]) -> Command {
    with_locked_memory(None, program, capabilities, args)
}

fn with_locked_memory(
    limit: Option<u64>,
    program: &Path,
    capabilities: &str,
    args: &[&str],
) -> Command {
    let template = command(args);
    let mut command = Command::new("bash");
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |kib| kib.to_string());
    command.args(["-c", &format!("ulimit -l {limit} 2>/dev/null; exec setpriv \"$@\""), "bash"]);
    command.args([format!("--reuid={STRANGER}"), format!("--regid={STRANGER}")]);
    command.args(["--clear-groups", "--no-new-privs"]);
    command.args([
        format!("--inh-caps=-all,{capabilities}"),
        format!("--ambient-caps=-all,{capabilities}"),
        format!("--bounding-set=-all,{capabilities}"),
    ]);
    command.arg(program).args(template.get_args());
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

#[test]
fn two_capabilities_are_enough_to_trace() -> Result<()> {
    if !ready(&["bash", "setpriv", "ss"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = for_strangers(dir.path())?;
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let before = Both::new(&netns, &listener, addr)?;
    // Inside the namespace everything is seen, what was there before and who has it too.
    let caps = "+bpf,+perfmon";
    let mut inside = netns.run(|| {
        Tcptrail::spawn(as_stranger(&program, caps, &["list", "--watch=300ms", "--json"]))
    })?;
    // Outside, what happens from now on.
    let mut outside = Tcptrail::spawn(as_stranger(&program, caps, &["tail", "--json"]))?;
    for one in [&mut inside, &mut outside] {
        one.wait_for("start", |event| event.kind() == "start")?;
    }
    check_threads(outside.pid(), 0, 0, Some(BPF | PERFMON))?;
    let (local, remote) = (shown(before.ends.client), shown(before.ends.server));
    let listed = inside.wait_for("the connection that was there", |event| {
        event.kind() == "socket"
            && event.text("local") == local
            && event.text("remote") == remote
            && (event.number("pid").is_some() || !has_cookies())
    })?;
    // Kernels without cookies do not tell who has a socket either.
    let ours = Some(u64::from(std::process::id()));
    ensure!(!has_cookies() || listed.number("pid") == ours, "{listed:?}");
    let new = Both::new(&netns, &listener, addr)?;
    let ends = new.ends;
    drop(new.client);
    read_end(&new.server)?;
    drop(new.server);
    // Other namespaces are seen too, and may have the same port.
    let (local, remote) = (shown(ends.client), shown(ends.server));
    let step = outside.wait_for("the new one's end", |event| {
        event.text("local") == local
            && event.text("remote") == remote
            && event.is_step("FIN_WAIT2>TIME_WAIT")
    })?;
    ensure!(step.number("pid") == Some(std::process::id().into()), "{step:?}");
    inside.stop()?.check_whole()?;
    let outside = outside.stop()?;
    outside.check_whole()?;
    ensure!(outside.stderr.contains("without CAP_SYS_ADMIN"), "{}", outside.stderr);
    outside.side(ends.client, ends.server).check_steps(&[
        "CLOSE>SYN_SENT",
        "SYN_SENT>ESTABLISHED",
        "ESTABLISHED>FIN_WAIT1",
        "FIN_WAIT1>FIN_WAIT2",
        "FIN_WAIT2>TIME_WAIT",
    ])
}

/// Before 5.11, where the two capabilities do not let it raise the limit.
#[test]
fn too_little_locked_memory_is_named() -> Result<()> {
    if !ready(&["bash", "setpriv"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = for_strangers(dir.path())?;
    let run = |caps: &str| -> Result<_> {
        let command = with_locked_memory(Some(64), &program, caps, &["list", "--json"]);
        Tcptrail::spawn(command)?.wait()
    };
    let two = run("+bpf,+perfmon")?;
    if kernel() < (5, 11) {
        ensure!(two.code() == Some(1), "{two:?}");
        ensure!(two.stderr.contains("locked memory, and the limit is 64 KiB"), "{}", two.stderr);
    } else {
        two.check_good_end()?;
    }
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let own = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("CapEff")?;
    if u64::from_str_radix(own.trim(), 16)? & SYS_RESOURCE == 0 {
        println!("skipped: no CAP_SYS_RESOURCE here to give it");
        return Ok(());
    }
    run("+bpf,+perfmon,+sys_resource")?.check_good_end()
}

#[test]
fn two_more_find_the_sockets_of_other_namespaces() -> Result<()> {
    if !ready(&["bash", "setpriv", "ss"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = for_strangers(dir.path())?;
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let local = shown(listener.local_addr()?);
    let listed = |caps: &str| -> Result<bool> {
        let run = Tcptrail::spawn(as_stranger(&program, caps, &["list", "--json"]))?.wait()?;
        run.check_whole()?;
        Ok(run.of_kind("socket").any(|event| event.text("local") == local))
    };
    ensure!(listed("+bpf,+perfmon,+sys_admin,+sys_ptrace")?, "not with all four");
    // CAP_SYS_ADMIN includes the first two.
    ensure!(listed("+sys_admin,+sys_ptrace")?, "not with the last two");
    ensure!(!listed("+bpf,+perfmon")?, "seen without the right to");
    Ok(())
}

/// As `setcap` gives them: the kernel then closes much of /proc/self.
#[test]
fn capabilities_of_the_file_are_enough() -> Result<()> {
    if !ready(&["bash", "setpriv", "setcap"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = for_strangers(dir.path())?;
    let set = Command::new("setcap").arg("cap_bpf,cap_perfmon+ep").arg(&program).output()?;
    if !set.status.success() {
        println!("skipped: no capabilities of files here");
        return Ok(());
    }
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -l unlimited 2>/dev/null; exec setpriv \"$@\"", "bash"]);
    command.args([format!("--reuid={STRANGER}"), format!("--regid={STRANGER}")]);
    command.arg("--clear-groups").arg(&program).args(["tail", "--json"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut tail = Tcptrail::spawn(command)?;
    tail.wait_for("start", |event| event.kind() == "start")?;
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let local = shown(listener.local_addr()?);
    tail.wait_for("the listener", |event| {
        event.is_step("CLOSE>LISTEN") && event.text("local") == local
    })?;
    // Losses are counted at the end, too.
    let run = tail.stop()?;
    run.check_whole()?;
    ensure!(!run.stderr.contains("count lost events"), "{}", run.stderr);
    Ok(())
}
