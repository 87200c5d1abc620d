//! However far apart events are: the reader sleeps in between, and shows each within a moment.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::netns::Netns;
use tests::pace::patience;
use tests::ready;
use tests::tcptrail::Tcptrail;
use tests::traffic::listen;

/// A reader that no program wakes looks once a second.
const MOMENT: Duration = Duration::from_millis(400);
/// After this nothing is under way.
const QUIET: Duration = Duration::from_millis(150);

#[test]
fn an_event_is_shown_soon_however_long_after_another() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut tail = Tcptrail::start(&["--netns", netns.name()])?;
    let mut late = Vec::new();
    let gaps = (0..24).map(|step| Duration::from_millis(5 * step));
    for gap in gaps {
        // The first after a quiet time wakes the reader.
        sleep(QUIET);
        let first = listen(&netns, "127.0.0.1:0")?;
        sleep(gap);
        let began = Instant::now();
        let second = listen(&netns, "127.0.0.1:0")?;
        let addr = second.local_addr()?;
        tail.wait_for("the second", |event| event.is_at(addr) && event.is_step("CLOSE>LISTEN"))?;
        let took = began.elapsed();
        if took > patience(MOMENT) {
            late.push((gap, took));
        }
        drop((first, second));
    }
    println!("{late:?}");
    // What keeps a machine busy may come in between; a reader that slept too soon would be late for most gaps of some length.
    ensure!(late.len() <= 4, "{late:?}");
    Ok(())
}
