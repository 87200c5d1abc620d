//! The incident: Tomcat with a servlet that forgets the response of Apache HttpClient when the resource is
//! missing, against a backend that closes.

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use tests::java::{Program, line_of};
use tests::netns::Netns;
use tests::traffic::connect;

use crate::stage::{check_frames, check_silent, closing_server, leaks, wait_for_leak};

const COUNT: u64 = 9;
const MISSING: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot here\n";

fn get(netns: &Netns, port: u16) -> Result<()> {
    let mut stream = connect(netns, ([127, 0, 0, 1], port).into())?;
    stream.write_all(b"GET /pages/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    Ok(())
}

#[test]
fn the_servlet_that_forgets_is_named_and_the_mended_one_is_not() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let backend = closing_server(&netns, MISSING)?.to_string();
    let mut tcptrail = leaks(&netns, &["--comm", "java"])?;
    let mut leaking = Program::java(&netns, &[], "PageServlet", &["8089", &backend, "leak"])?;
    let mut mended = Program::java(&netns, &[], "PageServlet", &["8090", &backend, "fixed"])?;
    leaking.wait_for("ready")?;
    mended.wait_for("ready")?;
    for _ in 0..COUNT {
        get(&netns, 8089)?;
        get(&netns, 8090)?;
    }
    let leak = wait_for_leak(&mut tcptrail, leaking.pid(), COUNT)?;
    let line = line_of("PageServlet", "client.execute(")?;
    assert_eq!(leak.text("opener"), format!("com.acme.PageServlet.doGet:{line}"));
    check_frames(
        &leak,
        &[
            "java.net.Socket.connect",
            "org.apache.http.impl.client.CloseableHttpClient.execute",
            "com.acme.PageServlet.doGet",
            "org.apache.catalina.core.StandardWrapperValve.invoke",
        ],
    )?;
    assert_eq!(leak.text("comm"), "java");
    assert_eq!(leak.text("remote"), format!("127.0.0.1:{backend}"));
    assert_eq!(leak.0["states"], serde_json::json!({ "CLOSE_WAIT": COUNT }));
    let run = tcptrail.stop()?;
    check_silent(&run, mended.pid())?;
    run.check_whole()
}
