//! What remote addresses and ports are called: from `/etc/hosts` and `/etc/services`, and where it is asked for from
//! reverse DNS.
//!
//! Both files are this machine's; a container may have other ones, which say nothing about the addresses that others
//! see. DNS is asked by threads of its own, and only with `--resolve`.

mod asked;
mod resolver;
mod tables;

pub use resolver::Resolver;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files;
use crate::names::{self, Entry, HostSource};

/// The names in the two files, read again when one has changed.
#[derive(Debug)]
pub struct Hosts {
    hosts: Watched,
    services: Watched,
}

/// A file of names.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// When it was as it was read: device, inode, length, time of change.
    version: Option<[i64; 5]>,
    parse: Parse,
    told: BTreeMap<Key, Box<[u8]>>,
}

/// Reads what the lines of a file name.
type Parse = for<'t> fn(&'t [u8]) -> Named<'t>;

/// What has a name, and which.
type Named<'t> = Vec<(Key, &'t [u8])>;

/// What has a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Host(names::Addr),
    Port(u16),
}

impl Hosts {
    /// Of the files below this root: `/`, but in tests.
    #[must_use]
    pub fn below(root: &Path) -> Hosts {
        let watched = |file: &str, parse: Parse| Watched {
            path: root.join(file),
            version: None,
            parse,
            told: BTreeMap::new(),
        };
        Hosts {
            hosts: watched("etc/hosts", tables::hosts),
            services: watched("etc/services", tables::services),
        }
    }

    /// What has changed since the last time, as [`Input::Names`](crate::input::Input::Names) has it. Most times
    /// nothing.
    pub fn news(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.hosts.news(&mut bytes);
        self.services.news(&mut bytes);
        bytes
    }
}

impl Watched {
    fn news(&mut self, out: &mut Vec<u8>) {
        let version = fs::metadata(&self.path).ok().map(|it| {
            let number = |it: u64| it.cast_signed();
            [number(it.dev()), number(it.ino()), number(it.size()), it.mtime(), it.mtime_nsec()]
        });
        if version == self.version {
            return;
        }
        self.version = version;
        // One that is gone has no names.
        let text = files::read(&self.path).unwrap_or_default();
        let mut found: BTreeMap<Key, Box<[u8]>> = BTreeMap::new();
        for (key, name) in (self.parse)(&text) {
            // As the system's resolver: the first line of an address counts.
            found.entry(key).or_insert_with(|| name.into());
        }
        for (key, name) in &found {
            if self.told.get(key) != Some(name) {
                names::encode(key.entry(), name, out);
            }
        }
        for key in self.told.keys().filter(|key| !found.contains_key(key)) {
            names::encode(key.entry(), b"", out);
        }
        self.told = found;
    }
}

impl Key {
    fn entry(self) -> Entry {
        match self {
            Key::Host(addr) => Entry::Host(addr, HostSource::Hosts),
            Key::Port(port) => Entry::Port(port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Names, bytes_of};

    #[test]
    fn files_are_read_again_when_they_change() {
        let root = tempfile::tempdir().expect("a folder");
        let etc = root.path().join("etc");
        fs::create_dir(&etc).expect("a folder");
        let mut names = Names::default();
        let mut files = Hosts::below(root.path());
        assert!(files.news().is_empty(), "there are none");
        let addr = bytes_of([10, 0, 0, 1].into());
        let host = |names: &Names| names.host(&addr).map(|(name, _)| name.to_vec());
        let mut write = |hosts: Option<&str>, services: &str, names: &mut Names| {
            // Another file, so that it is new whatever the clock says.
            let _ = fs::remove_file(etc.join("hosts"));
            if let Some(hosts) = hosts {
                fs::write(etc.join("new"), hosts).expect("written");
                fs::rename(etc.join("new"), etc.join("hosts")).expect("renamed");
            }
            fs::write(etc.join("services"), services).expect("written");
            let news = files.news();
            names.take_in(&news);
            news.len()
        };
        write(Some("10.0.0.1 db\n10.0.0.2 web\n"), "postgresql 5432/tcp\n", &mut names);
        assert_eq!(host(&names).as_deref(), Some(&b"db"[..]));
        assert_eq!(names.port(5432), Some(&b"postgresql"[..]));
        write(Some("10.0.0.1 other-name\n10.0.0.2 web\n"), "postgresql 5432/tcp\n", &mut names);
        assert_eq!(host(&names).as_deref(), Some(&b"other-name"[..]));
        write(None, "x 1/udp\n\n", &mut names);
        assert_eq!(host(&names), None);
        assert_eq!(names.port(5432), None);
    }

    #[test]
    fn the_first_line_of_an_address_counts() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("etc")).expect("a folder");
        fs::write(root.path().join("etc/hosts"), "10.0.0.1 a\n10.0.0.1 b\n").expect("written");
        let mut names = Names::default();
        names.take_in(&Hosts::below(root.path()).news());
        let found = names.host(&bytes_of([10, 0, 0, 1].into()));
        assert_eq!(found, Some((&b"a"[..], HostSource::Hosts)));
    }
}
