//! Names of the interfaces that sockets are bound to. An index means something in one network namespace only,
//! so they are asked by the thread that is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use tracer_common::wire::{SocketRow, flags};
use zerocopy::FromBytes;

use crate::names::{self, Entry};

/// Most names remembered: whoever may make interfaces may make any number.
const MOST: usize = 1 << 16;

/// Names that were told.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    told: BTreeMap<(u32, u32), String>,
}

impl Interfaces {
    /// Appends what is new since the last time: names of the interfaces of `netns`, which the calling thread is in,
    /// as [`Input::Names`](crate::input::Input::Names) has them. With `all`, every interface that has an address of
    /// IPv6; else those that `rows` name and that are not known.
    pub(super) fn learn(&mut self, netns: u32, rows: &[u8], all: bool, out: &mut Vec<u8>) {
        let bound = bound(rows);
        let unknown = |index: &u32| !self.told.contains_key(&(netns, *index));
        if !all && !bound.iter().any(unknown) {
            return;
        }
        // Not /proc/net: that is the first thread's namespace.
        let text = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        let mut found: BTreeMap<u32, String> = text.lines().filter_map(if_inet6).collect();
        for index in bound {
            // A socket of IPv4 may be bound to an interface, too (SO_BINDTODEVICE).
            if !found.contains_key(&index)
                && let Some(name) = name_of(index)
            {
                found.insert(index, name);
            }
        }
        for (index, name) in found {
            if self.told.get(&(netns, index)) != Some(&name) {
                names::encode(Entry::Interface(netns, index), name.as_bytes(), out);
                if self.told.len() >= MOST {
                    // Those that are still there are told again.
                    self.told.clear();
                }
                self.told.insert((netns, index), name);
            }
        }
    }

    /// Only these namespaces are left.
    pub(super) fn keep(&mut self, netns: &[u32]) {
        self.told.retain(|(of, _), _| netns.contains(of));
    }
}

/// The interfaces that the sockets of a walk are bound to.
fn bound(rows: &[u8]) -> BTreeSet<u32> {
    let rows = rows.chunks_exact(size_of::<SocketRow>());
    let rows = rows.filter_map(|row| SocketRow::ref_from_bytes(row).ok());
    let rows = rows.filter(|row| row.record.flags & flags::OWNER == 0 && row.record.pid != 0);
    rows.map(|row| row.record.pid).collect()
}

/// `fe800000000000000000000000000001 02 40 20 80 eth0`: index and name.
fn if_inet6(line: &str) -> Option<(u32, String)> {
    let mut words = line.split_ascii_whitespace();
    let index = u32::from_str_radix(words.nth(1)?, 16).ok()?;
    Some((index, words.nth(3)?.to_owned()))
}

fn name_of(index: u32) -> Option<String> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).ok()?;
    netdevice::index_to_name(socket, index).ok()
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    #[test]
    fn interfaces_are_read_from_the_kernels_list() {
        let check = |line: &str, expect: Option<(u32, &str)>| {
            let found = if_inet6(line);
            let found = found.as_ref().map(|(index, name)| (*index, name.as_str()));
            assert_eq!(found, expect, "{line}");
        };
        check("00000000000000000000000000000001 01 80 10 80       lo", Some((1, "lo")));
        check("fe800000000000004c0d21fffe4c7f0b 1f 40 20 80 veth0@x", Some((31, "veth0@x")));
        check("fe80 zz 40 20 80 x", None);
        check("fe80 01 40 20 80", None);
        check("", None);
    }

    #[test]
    fn each_name_is_told_once() {
        let mut row = SocketRow::new_zeroed();
        row.record.pid = 1;
        let mut interfaces = Interfaces::default();
        let mut learn = |all| {
            let mut out = Vec::new();
            interfaces.learn(7, row.as_bytes(), all, &mut out);
            out
        };
        let first = learn(false);
        let mut names = names::Names::default();
        names.take_in(&first);
        // Loopback is the first interface of every namespace.
        assert_eq!(names.interface(7, 1), Some(&b"lo"[..]));
        assert!(learn(false).is_empty());
        learn(true);
        assert!(learn(true).is_empty());
        interfaces.keep(&[8]);
        let mut again = Vec::new();
        interfaces.learn(7, row.as_bytes(), false, &mut again);
        assert!(!again.is_empty());
    }
}
