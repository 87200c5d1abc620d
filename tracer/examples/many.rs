//! Makes a recording of many live connections, none of which ever was:
//! `cargo run --example many CONNECTIONS FILE`.
//!
//! For measuring what a table of that size takes. It says nothing about a kernel. Clients and servers
//! alternate, a tenth is IPv6, forty processes own them.

use std::fs::File;
use std::io::BufWriter;

use anyhow::{Context, Result};
use tracer::input::{Input, Origin};
use tracer::output::record::Writer;
use tracer::source::recording::Ended;
use tracer::time::MonoNs;
use tracer_common::TcpState;
use tracer_common::wire::{AF_INET, AF_INET6, Record, RecordKind, flags};
use zerocopy::{FromZeros, IntoBytes};

const START: u64 = 1_000_000_000_000;
const NETNS: u32 = 4_026_531_840;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: many CONNECTIONS FILE";
    let count: u64 = args.next().and_then(|text| text.parse().ok()).context(usage)?;
    let path = args.next().context(usage)?;
    let origin = Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: "none: made up".to_owned(),
        machine: String::new(),
        hooks: vec!["inet_sock_set_state".to_owned(), "iter/tcp".to_owned()],
        filters: Vec::new(),
        wall_at_zero: 0,
        start_ns: START,
        jiffy_ns: 4_000_000,
        jiffies: None,
        reset_reasons: Vec::new(),
        drop_reasons: Vec::new(),
        only_netns: None,
        only_cgroup: false,
        segment: None,
    };
    let file = File::create(&path).with_context(|| path.clone())?;
    let mut writer = Writer::new(BufWriter::new(file), &origin)?;
    let mut record = Record::new_zeroed();
    for number in 0..count {
        let (opening, middle) = fill(&mut record, number);
        for (old, new) in [(opening, middle), (middle, TcpState::Established)] {
            record.mono_ns = START + number * 10_000 + u64::from(new.number());
            (record.old_state, record.new_state) = (old.number(), new.number());
            writer.push(&Input::Record(record.as_bytes()))?;
        }
    }
    writer.finish(Ended {
        events: 2 * count,
        connections: count,
        at: MonoNs(START + count * 10_000 + 1),
    })?;
    Ok(())
}

/// The `number`th connection; how it begins.
fn fill(record: &mut Record, number: u64) -> (TcpState, TcpState) {
    let port = 1024 + (number % 60_000) as u16;
    let host = (number / 60_000) as u8;
    let process = (number % 40) as u32;
    record.kind = RecordKind::Transition as u8;
    record.id = number + 1;
    record.netns = NETNS;
    record.cgroup = u64::from(process) + 1;
    let v6 = number % 10 == 9;
    record.family = if v6 { AF_INET6 } else { AF_INET };
    record.local_addr = [0; 16];
    record.remote_addr = [0; 16];
    if v6 {
        record.local_addr[..2].copy_from_slice(&[0xfd, 1]);
        record.remote_addr[..2].copy_from_slice(&[0xfd, 2]);
        record.remote_addr[15] = host;
    } else {
        record.local_addr[..4].copy_from_slice(&[10, 1, 0, 1]);
        record.remote_addr[..4].copy_from_slice(&[10, 2, 0, host]);
    }
    record.flags = flags::HAS_SOCKET | flags::COUNTERS;
    record.srtt_us = 250;
    (record.pid, record.tid) = (0, 0);
    (record.comm, record.thread) = ([0; 16], [0; 16]);
    if number.is_multiple_of(2) {
        (record.local_port, record.remote_port) = (port, 443);
        record.flags |= flags::OWNER;
        (record.pid, record.tid) = (1000 + process, 1000 + process);
        record.comm[..4].copy_from_slice(b"java");
        record.thread[..6].copy_from_slice(b"worker");
        (TcpState::Close, TcpState::SynSent)
    } else {
        (record.local_port, record.remote_port) = (8089, port);
        (TcpState::Listen, TcpState::SynRecv)
    }
}
