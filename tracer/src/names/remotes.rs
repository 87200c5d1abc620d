//! What remote addresses and ports are called, and where connections really go: what [`Entry`](super::Entry) has of
//! them, and what is kept of the names.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

/// Bytes of an address: those of IPv4 are mapped.
pub type Addr = [u8; 16];

/// The bytes of an address.
#[must_use]
pub fn bytes_of(addr: IpAddr) -> Addr {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Most names of each kind.
const MOST: usize = 8_192;
/// A host's name has at most 253 characters (RFC 1035, 2.3.4).
const LONGEST: usize = 255;

/// Who says what an address is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostSource {
    /// `/etc/hosts`.
    Hosts,
    /// Reverse DNS.
    Dns,
}

impl HostSource {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HostSource::Hosts => "hosts",
            HostSource::Dns => "dns",
        }
    }

    pub(super) const fn number(self) -> u64 {
        match self {
            HostSource::Hosts => 0,
            HostSource::Dns => 1,
        }
    }
}

/// Both ends of a connection behind a translation of addresses: what the process that answers has, the other way round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Translation {
    /// What the client is for the other end, by address and port.
    pub local: (Addr, u16),
    /// Where its segments go.
    pub remote: (Addr, u16),
}

/// Bytes of a [`Translation`].
const TRANSLATION: usize = 2 * (size_of::<Addr>() + 2);

impl Translation {
    /// Both ends, each with its port in network order.
    #[must_use]
    pub fn encode(&self) -> [u8; TRANSLATION] {
        let mut bytes = [0; TRANSLATION];
        let ends = [self.local, self.remote];
        for (into, (addr, port)) in bytes.chunks_exact_mut(TRANSLATION / 2).zip(ends) {
            into[..16].copy_from_slice(&addr);
            into[16..].copy_from_slice(&port.to_be_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Translation> {
        let end = |bytes: &[u8]| {
            let (addr, bytes) = bytes.split_first_chunk()?;
            Some((*addr, u16::from_be_bytes(bytes.try_into().ok()?)))
        };
        let (local, remote) = bytes.split_at_checked(TRANSLATION / 2)?;
        Some(Translation { local: end(local)?, remote: end(remote)? })
    }
}

/// The names known so far, within bounds: what is beyond them has no name.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    hosts: HashMap<Addr, Box<[u8]>, RandomState>,
    resolved: HashMap<Addr, Box<[u8]>, RandomState>,
    ports: HashMap<u16, Box<[u8]>, RandomState>,
}

impl Remotes {
    /// Takes in an address, its bytes before its name. Without a name it has none any more. Returns whether that is
    /// news.
    pub(super) fn name_host(&mut self, source: u64, bytes: &[u8]) -> bool {
        let Some((addr, name)) = bytes.split_first_chunk() else { return false };
        let names =
            if source == HostSource::Dns.number() { &mut self.resolved } else { &mut self.hosts };
        put(names, *addr, name)
    }

    /// Takes in what a port is called. Returns whether that is news.
    pub(super) fn name_port(&mut self, port: u64, name: &[u8]) -> bool {
        u16::try_from(port).is_ok_and(|port| put(&mut self.ports, port, name))
    }

    /// `/etc/hosts` is this machine's own word, so it comes first.
    pub(super) fn host(&self, addr: &Addr) -> Option<(&[u8], HostSource)> {
        if let Some(name) = self.hosts.get(addr) {
            return Some((name, HostSource::Hosts));
        }
        if self.resolved.is_empty() {
            return None;
        }
        self.resolved.get(addr).map(|name| (&**name, HostSource::Dns))
    }

    pub(super) fn port(&self, port: u16) -> Option<&[u8]> {
        self.ports.get(&port).map(|name| &**name)
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = (&Addr, HostSource, &[u8])> {
        let hosts = self.hosts.iter().map(|(addr, name)| (addr, HostSource::Hosts, &**name));
        let resolved = self.resolved.iter().map(|(addr, name)| (addr, HostSource::Dns, &**name));
        hosts.chain(resolved)
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.ports.iter().map(|(&port, name)| (port, &**name))
    }
}

fn put<K: Eq + std::hash::Hash>(
    names: &mut HashMap<K, Box<[u8]>, RandomState>,
    key: K,
    name: &[u8],
) -> bool {
    if name.is_empty() {
        return names.remove(&key).is_some();
    }
    let takes = name.len() <= LONGEST && (names.len() < MOST || names.contains_key(&key));
    takes && names.insert(key, name.into()).is_none_or(|before| *before != *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translations_come_back() {
        let translation = Translation { local: ([1; 16], 0x1234), remote: ([2; 16], 80) };
        let bytes = translation.encode();
        assert_eq!(Translation::decode(&bytes), Some(translation));
        assert_eq!(Translation::decode(&bytes[1..]), None);
        assert_eq!(Translation::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Translation::decode(&[]), None);
    }

    #[test]
    fn hosts_come_first_and_names_can_go() {
        let mut remotes = Remotes::default();
        let mut name = |source: HostSource, name: &[u8]| {
            remotes.name_host(source.number(), &[&[7; 16], name].concat());
            remotes.host(&[7; 16]).map(|(name, source)| (name.to_vec(), source))
        };
        assert_eq!(name(HostSource::Dns, b"far"), Some((b"far".to_vec(), HostSource::Dns)));
        assert_eq!(name(HostSource::Hosts, b"near"), Some((b"near".to_vec(), HostSource::Hosts)));
        assert_eq!(name(HostSource::Hosts, b""), Some((b"far".to_vec(), HostSource::Dns)));
        assert_eq!(name(HostSource::Dns, b""), None);
    }

    #[test]
    fn names_stay_within_bounds() {
        let mut remotes = Remotes::default();
        for number in 0..20_000_u128 {
            remotes.name_host(0, &[&number.to_be_bytes()[..], b"x"].concat());
        }
        remotes.name_port(80, &[b'x'; 256]);
        remotes.name_port(70_000, b"x");
        assert_eq!(remotes.hosts.len(), MOST);
        assert_eq!(remotes.ports.len(), 0);
        // What is known may have another name.
        remotes.name_host(0, &[&1_u128.to_be_bytes()[..], b"y"].concat());
        assert_eq!(remotes.host(&1_u128.to_be_bytes()), Some((&b"y"[..], HostSource::Hosts)));
    }
}
