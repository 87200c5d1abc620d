//! What looking for the stuck takes: `cargo run --release --example looks SOCKETS`.
//!
//! Sockets of forty processes, none of which ever was: established, a tenth of them in CLOSE_WAIT for
//! hours. Prints the time of one look, of which there is one a second at most, and a second less often
//! for each 25,000 sockets.

use std::time::Instant;

use anyhow::{Context, Result};
use tracer::engine::conn::{Options as TableOptions, Table};
use tracer::engine::decode;
use tracer::engine::rules::{Options, Watch};
use tracer::filter::Filter;
use tracer::time::MonoNs;
use tracer_common::TcpState;
use tracer_common::wire::{AF_INET, Record, RecordKind, flags};
use zerocopy::{FromZeros, IntoBytes};

const START: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn main() -> Result<()> {
    let count: u64 = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .context("usage: looks SOCKETS")?;
    let mut table = Table::new(TableOptions {
        start: MonoNs(START),
        jiffy_ns: 4_000_000,
        limit: 10_000_000,
        jiffies: None,
        minis_are_seen: true,
        minis_are_asked_for: true,
        resets_are_seen: true,
    });
    let mut watch = Watch::new(Options { jiffy_ns: 4_000_000, ..Options::default() });
    let mut changes = Vec::new();
    let mut record = Record::new_zeroed();
    record.kind = RecordKind::Transition as u8;
    record.family = AF_INET;
    record.netns = 4_026_531_840;
    for number in 1..=count {
        record.mono_ns = START + number;
        record.id = number;
        record.local_addr[..4].copy_from_slice(&[10, 0, 0, 1]);
        record.remote_addr[..4].copy_from_slice(&u32::try_from(number / 30_000)?.to_be_bytes());
        record.local_port = 20_000 + u16::try_from(number % 30_000)?;
        record.remote_port = 443;
        record.pid = 1_000 + u32::try_from(number % 40)?;
        record.comm[..4].copy_from_slice(b"java");
        let steps: &[(TcpState, TcpState)] = &[
            (TcpState::Close, TcpState::SynSent),
            (TcpState::SynSent, TcpState::Established),
            (TcpState::Established, TcpState::CloseWait),
        ];
        for (index, &(old, new)) in steps.iter().enumerate() {
            if new == TcpState::CloseWait && number % 10 != 0 {
                continue;
            }
            record.old_state = old.number();
            record.new_state = new.number();
            record.flags = flags::HAS_SOCKET | if index == 0 { flags::OWNER } else { 0 };
            table.apply(&decode::event(record.as_bytes())?, &mut changes);
        }
        for change in changes.drain(..) {
            if let Some(conn) = table.get(change.conn) {
                watch.change(conn, &change);
            }
        }
        table.settle();
    }
    let mut times = Vec::new();
    let mut updates = Vec::new();
    for look in 1..=20 {
        let now = MonoNs(START + 7_200 * SECOND + look * 3_600 * SECOND);
        let began = Instant::now();
        watch.look(&table, &Filter::default(), now, &mut updates);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!(
        "{count} sockets, {} findings: a look takes {:?} (median of {}), {:?} at most",
        watch.stuck(),
        times[times.len() / 2],
        times.len(),
        times[times.len() - 1]
    );
    Ok(())
}
