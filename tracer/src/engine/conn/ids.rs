//! Connections by identity and by tuple. The indices hold places in the slab, four bytes each; the keys
//! stand in the connections themselves.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;

use crate::engine::conn::connection::Connection;
use crate::event::{SockId, Tuple};

/// Where the connections are.
pub(crate) type Conns = Slab<Connection>;

/// Places of connections by [`Connection::id`].
#[derive(Debug, Default)]
pub(crate) struct Ids {
    places: HashTable<u32>,
    hasher: FixedState,
}

impl Ids {
    /// The connection with this identity.
    pub(crate) fn get(&self, conns: &Conns, id: SockId) -> Option<u32> {
        self.places.find(self.hasher.hash_one(id.0), |&place| has_id(conns, place, id)).copied()
    }

    /// Puts the connection at `place` in; the place it takes over, if its identity was known.
    pub(crate) fn insert(&mut self, conns: &Conns, id: SockId, place: u32) -> Option<u32> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(id.0);
        if let Some(known) = self.places.find_mut(hash, |&known| has_id(conns, known, id)) {
            return Some(std::mem::replace(known, place));
        }
        self.places.insert_unique(hash, place, |&other| {
            hasher.hash_one(conns.get(other as usize).map_or(0, |conn| conn.id.0))
        });
        None
    }

    /// Takes the connection at `place` out, if it is the one with this identity.
    pub(crate) fn remove(&mut self, id: SockId, place: u32) {
        let hash = self.hasher.hash_one(id.0);
        if let Ok(entry) = self.places.find_entry(hash, |&known| known == place) {
            entry.remove();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All places, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.iter().copied()
    }
}

fn has_id(conns: &Conns, place: u32, id: SockId) -> bool {
    conns.get(place as usize).is_some_and(|conn| conn.id == id)
}

/// Places of connections by tuple: within a namespace, and across namespaces.
#[derive(Debug, Default)]
pub(crate) struct Tuples {
    /// By namespace and tuple; of two with the same, the later.
    here: HashTable<u32>,
    /// Of `here`, those whose tuple, which is not of loopback, no other namespace has.
    across: HashTable<u32>,
    /// By the hash of a tuple that several namespaces have: how many, and the exclusive or of their
    /// places, which of one is its place.
    twins: HashMap<u64, (u32, u32), FixedState>,
    /// Our addresses in `here`, but those of loopback, and how often: few, where the places of many connections are in
    /// no cache.
    ours: HashMap<[u8; 16], u32, FixedState>,
    hasher: FixedState,
}

impl Tuples {
    /// Whether a connection may have this as its own address; not whether one does.
    pub(crate) fn may_have(&self, tuple: &Tuple) -> bool {
        tuple.is_loopback() || self.ours.contains_key(&tuple.local_addr)
    }

    /// The connection of that namespace.
    pub(crate) fn get(&self, conns: &Conns, tuple: &Tuple, netns: u32) -> Option<u32> {
        let hash = hash(&self.hasher, tuple, netns);
        self.here.find(hash, |&place| is_here(conns, place, tuple, netns)).copied()
    }

    /// The only connection with this tuple on the machine. Of two nobody knows whose peer they are.
    pub(crate) fn only(&self, conns: &Conns, tuple: &Tuple) -> Option<u32> {
        let hash = hash(&self.hasher, tuple, ANY);
        self.across.find(hash, |&place| has_tuple(conns, place, tuple)).copied()
    }

    /// Puts the connection at `place` in.
    pub(crate) fn insert(&mut self, conns: &Conns, place: u32) {
        let Some(conn) = conns.get(place as usize) else { return };
        let (tuple, netns, hasher) = (conn.tuple, conn.netns, &self.hasher);
        let key = hash(hasher, &tuple, netns);
        let known = self.here.find_mut(key, |&known| is_here(conns, known, &tuple, netns));
        let before = known.map(|known| std::mem::replace(known, place));
        if before.is_none() {
            self.here.insert_unique(key, place, |&other| {
                conns.get(other as usize).map_or(0, |conn| hash(hasher, &conn.tuple, conn.netns))
            });
        }
        if !tuple.is_loopback() {
            if before.is_none() {
                *self.ours.entry(tuple.local_addr).or_default() += 1;
            }
            self.insert_across(conns, place, before, &tuple);
        }
    }

    fn insert_across(&mut self, conns: &Conns, place: u32, before: Option<u32>, tuple: &Tuple) {
        let hasher = &self.hasher;
        let key = hash(hasher, tuple, ANY);
        if !self.twins.is_empty()
            && let Some((count, places)) = self.twins.get_mut(&key)
        {
            *count += u32::from(before.is_none());
            *places ^= place ^ before.unwrap_or(0);
            return;
        }
        match self.across.find_entry(key, |&known| has_tuple(conns, known, tuple)) {
            Ok(mut entry) if before.is_some() => *entry.get_mut() = place,
            Ok(entry) => {
                let (other, _) = entry.remove();
                self.twins.insert(key, (2, other ^ place));
            }
            Err(_) => {
                self.across.insert_unique(key, place, |&other| hash_any(conns, hasher, other));
            }
        }
    }

    /// Takes the connection at `place` out, if it is in.
    pub(crate) fn remove(&mut self, conns: &Conns, place: u32) {
        let Some(conn) = conns.get(place as usize) else { return };
        let hasher = &self.hasher;
        let key = hash(hasher, &conn.tuple, conn.netns);
        let Ok(entry) = self.here.find_entry(key, |&known| known == place) else { return };
        entry.remove();
        if conn.tuple.is_loopback() {
            return;
        }
        if let Some(count) = self.ours.get_mut(&conn.tuple.local_addr) {
            *count -= 1;
            if *count == 0 {
                self.ours.remove(&conn.tuple.local_addr);
            }
        }
        let key = hash(hasher, &conn.tuple, ANY);
        if !self.twins.is_empty()
            && let Some((count, places)) = self.twins.get_mut(&key)
        {
            *count -= 1;
            *places ^= place;
            if *count == 1 {
                let last = *places;
                self.twins.remove(&key);
                self.across.insert_unique(key, last, |&other| hash_any(conns, hasher, other));
            }
        } else if let Ok(entry) = self.across.find_entry(key, |&known| known == place) {
            entry.remove();
        }
    }

    /// Panics unless the parts agree with the connections and with each other.
    #[cfg(test)]
    pub(crate) fn check(&self, conns: &Conns) {
        let conn = |place: u32| conns.get(place as usize).expect("a tuple points to nothing");
        let mut beyond: HashMap<Tuple, Vec<u32>> = HashMap::new();
        for &place in &self.here {
            let Connection { tuple, netns, .. } = *conn(place);
            assert_eq!(self.get(conns, &tuple, netns), Some(place), "here: {tuple:?}");
            if !tuple.is_loopback() {
                beyond.entry(tuple).or_default().push(place);
            }
        }
        let mut ours: HashMap<[u8; 16], u32, FixedState> = HashMap::default();
        for (tuple, places) in &beyond {
            *ours.entry(tuple.local_addr).or_default() += places.len() as u32;
        }
        assert_eq!(self.ours, ours, "ours");
        let single = beyond.values().filter(|places| places.len() == 1).count();
        assert_eq!(self.across.len(), single, "across");
        assert_eq!(self.twins.len(), beyond.len() - single, "twins");
        for (tuple, places) in beyond {
            let only = if let [place] = places[..] { Some(place) } else { None };
            assert_eq!(self.only(conns, &tuple), only, "across: {tuple:?}");
            let Some(&(count, mixed)) = self.twins.get(&hash(&self.hasher, &tuple, ANY)) else {
                continue;
            };
            assert_eq!(count as usize, places.len(), "twins: {tuple:?}");
            assert_eq!(mixed, places.iter().fold(0, |mixed, place| mixed ^ place), "{tuple:?}");
        }
    }
}

/// In place of a namespace's inode number: no namespace has 0.
const ANY: u32 = 0;

fn is_here(conns: &Conns, place: u32, tuple: &Tuple, netns: u32) -> bool {
    conns.get(place as usize).is_some_and(|conn| conn.netns == netns && conn.tuple == *tuple)
}

fn has_tuple(conns: &Conns, place: u32, tuple: &Tuple) -> bool {
    conns.get(place as usize).is_some_and(|conn| conn.tuple == *tuple)
}

fn hash_any(conns: &Conns, hasher: &FixedState, place: u32) -> u64 {
    conns.get(place as usize).map_or(0, |conn| hash(hasher, &conn.tuple, ANY))
}

fn hash(hasher: &FixedState, tuple: &Tuple, netns: u32) -> u64 {
    hasher.hash_one((
        u128::from_ne_bytes(tuple.local_addr),
        u128::from_ne_bytes(tuple.remote_addr),
        u64::from(tuple.local_port) << 48 | u64::from(tuple.remote_port) << 32 | u64::from(netns),
    ))
}
