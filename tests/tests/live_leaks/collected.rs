//! Sockets that only the garbage collector closes, on every JDK that is here.

use anyhow::Result;
use tests::java::{Program, java_of, line_of};
use tests::jdks;
use tests::netns::Netns;

use crate::stage::{PATIENCE, check_silent, closing_server, leaks};

const COUNT: u64 = 20;

#[test]
fn what_only_the_garbage_collector_closes_is_a_leak() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?.to_string();
    let mut tcptrail = leaks(&netns, &[])?;
    let count = COUNT.to_string();
    let start = |jdk: &jdks::Jdk, more: &[&str]| {
        let args = [&[port.as_str(), &count], more].concat();
        Program::start(&netns, java_of(&jdk.tool("java"), &[], "Forgets", &args)?)
    };
    let all = jdks::all();
    let forgetting: Vec<Program> = all.iter().map(|jdk| start(jdk, &[])).collect::<Result<_>>()?;
    let mut closing = match all.last() {
        Some(jdk) => start(jdk, &["close"])?,
        None => return Ok(()),
    };
    let line = line_of("Forgets", "new Socket(")?;
    for (jdk, program) in all.iter().zip(&forgetting) {
        // The last one may still be on a thread's stack.
        let leak = tcptrail.wait_for_within("what was collected", PATIENCE, |event| {
            event.kind() == "leak"
                && event.number("pid") == Some(u64::from(program.pid()))
                && event
                    .number("collected")
                    .is_some_and(|count| (COUNT - 1..=COUNT).contains(&count))
                && !event.0["frames"].is_null()
        })?;
        assert_eq!(
            leak.text("opener"),
            format!("com.acme.Forgets.ask:{line}"),
            "JDK {}",
            jdk.release
        );
        println!("JDK {}: {:?} collected", jdk.release, leak.number("collected"));
    }
    closing.wait_for("done")?;
    let run = tcptrail.stop()?;
    check_silent(&run, closing.pid())?;
    let accused =
        run.of_kind("leak").filter(|leak| leak.number("pid") == Some(u64::from(closing.pid())));
    assert_eq!(accused.filter_map(|leak| leak.number("collected")).max().unwrap_or(0), 0);
    run.check_whole()
}
