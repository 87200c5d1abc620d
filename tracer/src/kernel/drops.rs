//! Which drops are told: those that mean a loss.

use std::io;

use aya::maps::{MapData, PerCpuArray};
use tracer_common::globals::DropSettings;

use super::layout::{DropArgs, Resolved};

/// Reasons of packets that were not lost: they did what they were for, or the other side has what was in them. Names
/// of `enum skb_drop_reason`; `tcp_rcv_established` and those around it say which is which.
const HARMLESS: [&str; 15] = [
    "NOT_DROPPED_YET",
    "CONSUMED",
    // Before a reason was given to each place: every packet that was merely used up.
    "NOT_SPECIFIED",
    // What was left in the queues of a socket or an interface that was closed.
    "SOCKET_CLOSE",
    "QUEUE_PURGE",
    // Of another host: the interface hears them all (promiscuous mode).
    "OTHERHOST",
    // No reason, but how many there are.
    "MAX",
    // ACKs and data that came twice.
    "TCP_OLD_ACK",
    "TCP_OLD_DATA",
    "TCP_OLD_SEQUENCE",
    "TCP_OFOMERGE",
    "DUP_FRAG",
    // A RST that did what it was for, and what comes to a connection that is over.
    "TCP_RESET",
    "TCP_CLOSE",
    // The SYN of a connection that was made from it (`tcp_conn_request`, fast open).
    "TCP_FASTOPEN",
];

/// Of each reason and processor, so many are told one by one in a second; the others are counted.
const PER_SECOND: u32 = 1_000;

/// What the program on `kfree_skb` needs to know of this kernel.
pub(super) fn settings(resolved: &Resolved) -> DropSettings {
    let mut settings = DropSettings {
        has_socket: u32::from(resolved.drop_args == DropArgs::ReasonAndSocket),
        per_second: PER_SECOND,
        ..DropSettings::default()
    };
    for (number, name) in resolved.drop_reasons.iter().enumerate() {
        if name.is_empty() || HARMLESS.contains(&name.as_str()) {
            continue;
        }
        if let Some(word) = settings.told.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
        if name == "NO_SOCKET" {
            settings.no_socket = u32::try_from(number).unwrap_or(0);
        }
    }
    settings
}

/// Drops that no line tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// In the one namespace that is wanted, or in all.
    pub here: u64,
    /// In others, where one is wanted.
    pub elsewhere: u64,
}

/// How many were told, and how many not, by reason: a [`Pace`](tracer_common::globals::Pace) for each place.
pub(super) struct Paces(pub(super) PerCpuArray<MapData, [u64; 2]>);

impl Paces {
    /// Drops that were counted and never told, because no line for their reason came after them.
    pub(super) fn untold(&self) -> io::Result<Untold> {
        let mut untold = Untold::default();
        for place in 0..self.0.len() {
            let is_here = place < DropSettings::KINDS;
            let sum = if is_here { &mut untold.here } else { &mut untold.elsewhere };
            let per_cpu = self.0.get(&place, 0).map_err(io::Error::other)?;
            for [_, counts] in per_cpu.iter() {
                let [_, _, _, _, count @ ..] = counts.to_ne_bytes();
                *sum += u64::from(u32::from_ne_bytes(count));
            }
        }
        Ok(untold)
    }
}
