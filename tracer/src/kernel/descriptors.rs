//! What the walk over descriptors counted beside its rows: descriptors that are no TCP sockets, by
//! process and kind.

use std::collections::HashMap;

use aya::Ebpf;
use aya::maps::HashMap as Map;
use tracer_common::descriptors::DescriptorKind as Kind;
use tracer_common::descriptors::Descriptors as Counted;
use tracer_common::names;

use crate::engine::rules::Descriptors;

/// As the kernel's map holds it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Pod(Counted);

#[expect(unsafe_code, reason = "aya asks for a promise about the type")]
// SAFETY: integers without padding.
unsafe impl aya::Pod for Pod {}

/// What the last walk counted, by process; takes what earlier ones left out of the map. Empty where
/// nothing is counted, and where the map cannot be read.
pub(super) fn take(ebpf: &mut Ebpf) -> HashMap<u32, Descriptors> {
    let Some(map) = ebpf.map_mut(names::DESCRIPTORS) else { return HashMap::new() };
    let Ok(mut map) = Map::<_, u32, Pod>::try_from(map) else { return HashMap::new() };
    let all: Vec<(u32, Counted)> =
        map.iter().filter_map(Result::ok).map(|(pid, Pod(counted))| (pid, counted)).collect();
    let last = all.iter().map(|(_, counted)| counted.session).max().unwrap_or(0);
    let mut found = HashMap::new();
    for (pid, counted) in all {
        if counted.session == last {
            found.insert(pid, told(&counted));
        } else {
            // The process has ended, or has no such descriptors any more.
            let _ = map.remove(&pid);
        }
    }
    found
}

fn told(counted: &Counted) -> Descriptors {
    let of = |kind: Kind| u64::from(counted.counts[kind as usize]);
    let files = of(Kind::File);
    // The candidate of a vote need not have a majority; so many of its files were met.
    let most = u64::from(counted.matches) * 2 > files;
    Descriptors {
        udp: of(Kind::Udp),
        unix: of(Kind::Unix),
        other_sockets: of(Kind::OtherSocket),
        pipes: of(Kind::Pipe),
        files,
        directories: of(Kind::Directory),
        devices: of(Kind::Device),
        epolls: of(Kind::Epoll),
        others: of(Kind::Other),
        most_files_in: most.then(|| place(&counted.above, &counted.name)).flatten(),
    }
}

/// The last two components of a directory's path: `logs/archive`; `/` for a root.
fn place(above: &[u8], name: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let (above, name) = (text(above), text(name));
    match (above.as_str(), name.as_str()) {
        (_, "") => None,
        // The root of a volume is above itself.
        (_, "/") => Some("/".to_owned()),
        ("" | "/", name) => Some(name.to_owned()),
        (above, name) => Some(format!("{above}/{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(files: u32, matches: u32, above: &[u8], name: &[u8]) -> Counted {
        let mut counted = Counted {
            session: 1,
            directory: 7,
            counts: [0; Kind::COUNT],
            votes: 1,
            matches,
            pad: 0,
            name: [0; 32],
            above: [0; 32],
        };
        counted.counts[Kind::File as usize] = files;
        counted.counts[Kind::Pipe as usize] = 3;
        counted.name[..name.len()].copy_from_slice(name);
        counted.above[..above.len()].copy_from_slice(above);
        counted
    }

    #[test]
    fn the_directory_is_told_where_most_files_are_in_it() {
        let check = |files, matches, above: &[u8], name: &[u8], expect: Option<&str>| {
            let told = told(&counted(files, matches, above, name));
            assert_eq!((told.files, told.pipes), (u64::from(files), 3));
            assert_eq!(told.most_files_in.as_deref(), expect);
        };
        check(10, 6, b"var", b"log", Some("var/log"));
        check(10, 5, b"var", b"log", None);
        check(1, 1, b"/", b"tmp", Some("tmp"));
        check(1, 1, b"/", b"/", Some("/"));
        check(2, 2, b"", b"", None);
    }
}
