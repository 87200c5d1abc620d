//! Bytes for each live connection in the table, its indices and whatever else it keeps included.
//!
//! In a process of its own: the counter is global.
#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tracer::engine::conn::{Options, Table};
use tracer::engine::decode;
use tracer::time::MonoNs;
use tracer_common::TcpState;
use tracer_common::wire::{AF_INET, AF_INET6, Record, RecordKind, flags};
use zerocopy::{FromZeros, IntoBytes};

/// The system's allocator, counting what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.fetch_add(size, Relaxed);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What is promised of a live connection.
const MOST: usize = 256;

/// Both families, clients and servers, forty processes; the same tuple never twice.
fn fill(record: &mut Record, number: u64, loopback: bool) -> (TcpState, TcpState) {
    let low = number.to_le_bytes();
    let process = (number % 40) as u32;
    record.kind = RecordKind::Transition as u8;
    (record.id, record.netns) = (number + 1, 1);
    record.flags = flags::OWNER | flags::COUNTERS | flags::HAS_SOCKET;
    (record.pid, record.tid, record.comm[0]) = (process, process, b'j');
    record.srtt_us = 100;
    (record.local_addr, record.remote_addr) = ([0; 16], [0; 16]);
    record.family = if number % 10 == 9 && !loopback { AF_INET6 } else { AF_INET };
    record.local_addr[..4].copy_from_slice(if loopback { &[127, 0, 0, 1] } else { &[10, 0, 0, 1] });
    record.remote_addr[..4].copy_from_slice(&[if loopback { 127 } else { 10 }, 1, low[2], low[3]]);
    let port = 1 + (number % 65_000) as u16;
    record.remote_addr[1] = (number / 65_000) as u8;
    if number.is_multiple_of(2) {
        (record.local_port, record.remote_port) = (port, 443);
        (TcpState::Close, TcpState::SynSent)
    } else {
        (record.local_port, record.remote_port) = (8089, port);
        (TcpState::Listen, TcpState::SynRecv)
    }
}

/// Bytes for each of so many, taken through `states`.
fn bytes_each(count: u64, loopback: bool, states: &[TcpState]) -> usize {
    let before = IN_USE.load(Relaxed);
    let mut table = Table::new(Options {
        start: MonoNs(0),
        jiffy_ns: 4_000_000,
        limit: usize::MAX,
        jiffies: None,
        minis_are_seen: true,
        minis_are_asked_for: true,
        resets_are_seen: true,
    });
    let mut changes = Vec::new();
    let mut record = Record::new_zeroed();
    for number in 0..count {
        let (opening, middle) = fill(&mut record, number, loopback);
        let mut old = opening;
        for &new in [middle].iter().chain(states) {
            record.mono_ns += 1_000;
            (record.old_state, record.new_state) = (old.number(), new.number());
            let event = decode::event(record.as_bytes()).expect("a record");
            table.apply(&event, &mut changes);
            changes.clear();
            table.settle();
            old = new;
        }
    }
    assert_eq!(table.len() as u64, count);
    drop(changes);
    (IN_USE.load(Relaxed) - before).div_ceil(count as usize)
}

#[test]
fn a_live_connection_takes_no_more_than_is_promised() {
    use TcpState::{CloseWait, Established};
    // Just before the indices grow, and after.
    for count in [114_688, 114_689] {
        let beyond = bytes_each(count, false, &[Established]);
        let loopback = bytes_each(count, true, &[Established]);
        let leaked = bytes_each(count, false, &[Established, CloseWait]);
        println!("{count}: {beyond} bytes each, loopback {loopback}, CLOSE_WAIT {leaked}");
        assert!(
            beyond.max(loopback).max(leaked) <= MOST,
            "{count}: {beyond}, {loopback}, {leaked}"
        );
    }
}
