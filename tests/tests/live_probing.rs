//! Kernels that lack something, as far as this one can be made to: what is there is found by trying, and what is lost
//! is named.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::ready;
use tests::tcptrail::binary;

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Runs a shell command that starts tcptrail, with a connection to itself each 100 ms meanwhile.
fn run(shell: &str) -> Result<(Output, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let tcptrail = binary();
    let mut child = Command::new("sh")
        .args(["-c", shell])
        .env("TCPTRAIL", &tcptrail)
        .env("PORT", port.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("no shell")?;
    let end = Instant::now() + Duration::from_secs(40);
    while child.try_wait()?.is_none() && Instant::now() < end {
        let client = TcpStream::connect(("127.0.0.1", port))?;
        let (server, _) = listener.accept()?;
        drop((client, server));
        thread::sleep(Duration::from_millis(100));
    }
    Ok((child.wait_with_output()?, port))
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// `uname` of a process with this personality says 2.6 (`override_release`).
#[test]
fn an_old_version_number_alone_is_no_reason_to_refuse() -> Result<()> {
    if !ready(&["setarch"]) {
        return Ok(());
    }
    let (output, port) =
        run("exec setarch --uname-2.6 \"$TCPTRAIL\" tail --lport \"$PORT\" --duration 3s")?;
    let (out, err) = words(&output);
    ensure!(output.status.success(), "{}: {err}", output.status);
    ensure!(out.contains(&format!(":{port}")), "no event: {out} {err}");
    Ok(())
}

/// Without its iterators' functions in BTF a kernel has none, as far as anybody can tell.
#[test]
fn without_iterators_tail_and_life_run_and_what_is_lost_is_named() -> Result<()> {
    if !ready(&["unshare", "mount"]) {
        return Ok(());
    }
    let mut btf = fs::read(BTF)?;
    for name in [&b"\0bpf_iter_tcp\0"[..], b"\0bpf_iter_task_file\0"] {
        let at = btf.windows(name.len()).position(|part| part == name).context("no iterator")?;
        btf[at + 1] = b'x';
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("btf");
    fs::write(&file, btf)?;
    let without = |command: &str| {
        run(&format!(
            "exec unshare --mount sh -c 'mount --bind {} {BTF} && exec \"$TCPTRAIL\" {command}'",
            file.display()
        ))
    };
    for command in ["tail --lport \"$PORT\" --duration 3s", "life --lport \"$PORT\" --duration 3s"]
    {
        let (output, port) = without(command)?;
        let (out, err) = words(&output);
        ensure!(output.status.success(), "{command}: {}: {err}", output.status);
        ensure!(out.contains(&format!(":{port}")), "{command}: no event: {out} {err}");
        for lost in ["TIME_WAIT and half-open connections are not seen", "owners are known only"] {
            ensure!(err.contains(lost), "{command}: {err}");
        }
    }
    let (output, _) = without("list")?;
    let (_, err) = words(&output);
    ensure!(output.status.code() == Some(1) && err.contains("list needs iter/tcp"), "{err}");
    Ok(())
}
