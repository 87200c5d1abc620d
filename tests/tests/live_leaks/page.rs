//! `tcptrail incident`: its page names what is wrong, and its bundle gives the same page to a stranger.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::java::{Program, line_of};
use tests::netns::Netns;
use tests::tcptrail::{binary, command};
use tests::traffic::{connect, listen};

use crate::stage::closing_server;

/// `nobody`.
const STRANGER: u32 = 65_534;
const MISSING: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot here\n";
/// Something is wrong.
const WRONG: Option<i32> = Some(3);

/// A folder that everybody may read, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("tcptrail-{name}-{}", std::process::id()));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The page that a user without privileges gets of a bundle.
fn replayed_by_a_stranger(folder: &Path, bundle: &Path) -> Result<Output> {
    // Neither the program nor the bundle is for others where they are.
    let program = folder.join("tcptrail");
    fs::copy(binary(), &program)?;
    fs::set_permissions(bundle, fs::Permissions::from_mode(0o644))?;
    let mut replay = Command::new(program);
    replay.arg("replay").arg(bundle).arg("incident").uid(STRANGER).gid(STRANGER);
    Ok(replay.output()?)
}

fn get(netns: &Netns, port: u16) -> Result<()> {
    let mut stream = connect(netns, ([127, 0, 0, 1], port).into())?;
    stream.write_all(b"GET /pages/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    Ok(())
}

#[test]
fn the_page_about_a_servlet_that_forgets_and_the_one_about_the_mended_one() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let folder = Folder::new("page")?;
    let backend = closing_server(&netns, MISSING)?.to_string();
    let mut leaking = Program::java(&netns, &[], "PageServlet", &["8089", &backend, "leak"])?;
    let mut mended = Program::java(&netns, &[], "PageServlet", &["8090", &backend, "fixed"])?;
    leaking.wait_for("ready")?;
    mended.wait_for("ready")?;
    let watch = |pid: u32, bundle: &Path| {
        let mut incident =
            command(&["incident", "--netns", netns.name(), "--pid", &pid.to_string()]);
        incident.args(["--for", "14s", "--threshold", "CLOSE_WAIT=4s", "-o"]).arg(bundle);
        incident.spawn()
    };
    let (bundle, healthy) = (folder.0.join("leak.tar.zst"), folder.0.join("healthy"));
    let mut wrong = watch(leaking.pid(), &bundle)?;
    let mut fine = watch(mended.pid(), &healthy)?;
    // Until both look on, which takes its time on a busy machine, and for as long as they do.
    while wrong.try_wait()?.is_none() || fine.try_wait()?.is_none() {
        thread::sleep(Duration::from_secs(1));
        get(&netns, 8089)?;
        get(&netns, 8090)?;
    }
    let (wrong, fine) = (wrong.wait_with_output()?, fine.wait_with_output()?);

    let page = text(&wrong.stdout);
    println!("{page}");
    assert_eq!(wrong.status.code(), WRONG, "{page}{}", text(&wrong.stderr));
    let line = line_of("PageServlet", "client.execute(")?;
    let plain = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        format!("1. java[{}] leaks CLOSE_WAIT to 127.0.0.1:{backend}", leaking.pid()),
        format!("opened by com.acme.PageServlet.doGet:{line}"),
        "that thread is ".to_owned(),
        "java.net.Socket".to_owned(),
        "How sure sure:".to_owned(),
    ] {
        ensure!(plain.contains(&words), "no {words:?} in:\n{page}");
    }
    let page = text(&fine.stdout);
    assert_eq!(fine.status.code(), Some(0), "{page}{}", text(&fine.stderr));
    ensure!(page.contains("Nothing is wrong now"), "{page}");

    // All that there is, readable by other tools.
    let names: Vec<String> = fs::read_dir(&healthy)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    for name in [
        "incident.txt",
        "about.json",
        "doctor.txt",
        "findings.ndjson",
        "leaks.ndjson",
        "recording.tcpt",
        "sockets.ndjson",
        "stacks.folded",
    ] {
        ensure!(names.iter().any(|one| one == name), "no {name} in {names:?}");
    }
    let dumps = names.iter().filter(|name| name.starts_with("threads-")).count();
    assert_eq!(dumps, 2, "{names:?}");

    let again = replayed_by_a_stranger(&folder.0, &bundle)?;
    assert_eq!(text(&again.stdout), text(&wrong.stdout), "{}", text(&again.stderr));
    assert_eq!(again.status.code(), WRONG);
    Ok(())
}

#[test]
fn the_page_about_connections_that_are_opened_and_never_closed() -> Result<()> {
    if !tests::ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let folder = Folder::new("established")?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    // A server that keeps what it is given.
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().map_while(std::io::Result::ok) {
            kept.push(stream);
        }
    });
    let code = "import socket,sys,time\n\
                kept=[]\n\
                for _ in range(600):\n  kept.append(socket.create_connection(('127.0.0.1',int(sys.argv[1]))))\n  time.sleep(0.2)\n\
                time.sleep(30)";
    let mut client = Command::new("python3");
    client.args(["-c", code, &port]);
    let client = Program::start(&netns, client)?;
    let bundle = folder.0.join("bundle.tar.zst");
    let mut incident = command(&["incident", "--netns", netns.name(), "--pid"]);
    incident.arg(client.pid().to_string());
    incident.args(["--for", "22s", "--threshold", "ESTABLISHED_IDLE=3s", "-o"]).arg(&bundle);
    let run = incident.output().context("incident")?;
    let page = text(&run.stdout);
    println!("{page}");
    assert_eq!(run.status.code(), WRONG, "{page}{}", text(&run.stderr));
    let plain = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        format!("1. python3[{}] leaks", client.pid()),
        format!("127.0.0.1:{port}"),
        "ESTABLISHED".to_owned(),
        format!("py-spy dump --pid {}", client.pid()),
    ] {
        ensure!(plain.contains(&words), "no {words:?} in:\n{page}");
    }
    let again = replayed_by_a_stranger(&folder.0, &bundle)?;
    assert_eq!(text(&again.stdout), page, "{}", text(&again.stderr));
    Ok(())
}
