//! `floor OBJECT`: attaches the floor program and drains its ring until stdin is closed, then prints
//! how many records it took. `cargo xtask bench` measures tcptrail against it.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::RingBuf;
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: floor OBJECT")?;
    let mut ebpf = Ebpf::load_file(&path).with_context(|| format!("cannot load {path}"))?;
    let btf = Btf::from_sys_fs()?;
    let program: &mut BtfTracePoint =
        ebpf.program_mut("bench_floor").context("no program")?.try_into()?;
    program.load("inet_sock_set_state", &btf)?;
    program.attach()?;
    let mut ring = RingBuf::try_from(ebpf.take_map("FLOOR_RING").context("no ring")?)?;
    println!("ready");
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        // Any end of stdin is the end.
        let _ = std::io::stdin().read(&mut [0]);
        told.store(true, Ordering::Relaxed);
    });
    let mut taken = 0u64;
    loop {
        let last = stop.load(Ordering::Relaxed);
        while let Some(record) = ring.next() {
            std::hint::black_box(&record[..]);
            taken += 1;
        }
        if last {
            println!("{taken}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
