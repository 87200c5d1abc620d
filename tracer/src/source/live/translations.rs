//! Which connections conntrack is asked about: decisions, without a clock.
//!
//! Only a client's destination can have been translated, and only what is there when a look comes is asked for: short
//! connections cost nothing. Where three connections to an endpoint were not translated, the others to it are not
//! asked for, for a minute.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use foldhash::fast::RandomState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role, Table};
use crate::event::{Shape, SockId};
use crate::kernel::conntrack::{Answer, Question};
use crate::names::{self, Entry};
use crate::time::MonoNs;

/// Connections asked for in one look, some microseconds each.
const MOST_IN_A_LOOK: usize = 1_000;
/// The same in the first looks, which a list waits for.
const MOST_AT_FIRST: usize = 8_192;
/// The second asks for the other connections to what turned out to be translated.
const FIRST_LOOKS: u8 = 2;
/// Connections that were asked for and are not translated, while some of the same endpoint are.
const MOST_ASKED: usize = 65_536;
/// Endpoints that are remembered.
const MOST_ENDPOINTS: usize = 16_384;
/// So many that were not translated speak for all.
const ENOUGH: u8 = 3;
/// For so long.
const TRUSTED_NS: u64 = 60_000_000_000;

/// What is known of a remote endpoint, in one network namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Endpoint {
    /// Connections to it that are not translated, or are on their way.
    plain: u8,
    /// One was translated: each is asked for.
    translated: bool,
    /// When the first of those was asked for.
    since: MonoNs,
}

/// What was asked.
#[derive(Debug, Default)]
pub(super) struct Translations {
    endpoints: HashMap<(u32, SocketAddr), Endpoint, RandomState>,
    asked: HashSet<SockId, RandomState>,
    /// Looks so far, while they are few.
    looks: u8,
    /// There was no room for all.
    pub(super) cut: bool,
}

impl Translations {
    /// What is to be asked now.
    pub(super) fn questions(&mut self, table: &Table, now: MonoNs) -> Vec<Question> {
        let most = if self.looks < FIRST_LOOKS { MOST_AT_FIRST } else { MOST_IN_A_LOOK };
        self.looks = self.looks.saturating_add(1);
        self.asked.retain(|&id| table.find_open(id).is_some());
        if self.endpoints.len() >= MOST_ENDPOINTS {
            self.endpoints.clear();
        }
        let mut questions = Vec::new();
        if !table.has_room_for_translations() || self.asked.len() >= MOST_ASKED {
            self.cut = true;
            return questions;
        }
        for conn in table.iter_open().filter(|conn| may_be_translated(conn)) {
            if questions.len() >= most || self.asked.len() >= MOST_ASKED {
                break;
            }
            if table.translation(conn).is_none() && self.is_wanted(conn, now) {
                questions.push(Question { id: conn.id, netns: conn.netns, tuple: conn.tuple });
            }
        }
        questions
    }

    /// Whether this one is to be asked for. If so, it is on its way.
    fn is_wanted(&mut self, conn: &Connection, now: MonoNs) -> bool {
        let key = (conn.netns, conn.tuple.remote());
        if self.endpoints.len() >= MOST_ENDPOINTS && !self.endpoints.contains_key(&key) {
            return false;
        }
        let endpoint = self.endpoints.entry(key).or_default();
        if endpoint.plain >= ENOUGH && !endpoint.translated {
            if now.since(endpoint.since) < TRUSTED_NS {
                return false;
            }
            endpoint.plain = 0;
        }
        if !self.asked.insert(conn.id) {
            return false;
        }
        if endpoint.plain == 0 {
            endpoint.since = now;
        }
        endpoint.plain = endpoint.plain.saturating_add(1);
        true
    }

    /// Whether the others to an endpoint are to be asked for at once.
    pub(super) fn is_at_the_start(&self) -> bool {
        self.looks < FIRST_LOOKS
    }

    /// Takes in answers; what is new, as [`Input::Names`](crate::input::Input::Names) has it.
    pub(super) fn answered(&mut self, answers: &[Answer]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (question, translation) in answers {
            let Some(translation) = translation else { continue };
            names::encode(Entry::Translation(question.id.0), &translation.encode(), &mut bytes);
            self.asked.remove(&question.id);
            if let Some(endpoint) =
                self.endpoints.get_mut(&(question.netns, question.tuple.remote()))
            {
                endpoint.translated = true;
            }
        }
        bytes
    }
}

fn may_be_translated(conn: &Connection) -> bool {
    // Of what was there before, the side may not be known.
    matches!(conn.role, Role::Client | Role::Unknown)
        && conn.shape == Shape::Full
        && conn.state != TcpState::Close
        && conn.tuple.local_port != 0
        && conn.tuple.remote_port != 0
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::engine::conn::Options;
    use crate::event::{Event, Family, SocketFlags, Tuple, What};
    use crate::names::{Translation, bytes_of};

    const SECOND: u64 = 1_000_000_000;

    fn table() -> Table {
        Table::new(Options {
            start: MonoNs(0),
            jiffy_ns: 4_000_000,
            limit: 1_000_000,
            jiffies: None,
            minis_are_seen: true,
            minis_are_asked_for: true,
            resets_are_seen: true,
        })
    }

    /// A connect to port 80 of 10.0.`to`.
    fn connect(table: &mut Table, id: u64, to: u16) {
        for (old, new) in
            [(TcpState::Close, TcpState::SynSent), (TcpState::SynSent, TcpState::Established)]
        {
            let event = Event {
                at: MonoNs(id),
                id: SockId(id),
                address: 0,
                netns: 1,
                tuple: Tuple {
                    local_addr: bytes_of(Ipv4Addr::new(10, 0, 0, 1).into()),
                    remote_addr: bytes_of(Ipv4Addr::from(0x0a00_0000 | u32::from(to)).into()),
                    local_port: u16::try_from(10_000 + id).expect("a port"),
                    remote_port: 80,
                    family: Family::V4,
                },
                cgroup: 0,
                interface: 0,
                flags: SocketFlags::default(),
                error: 0,
                counters: None,
                ages: None,
                what: What::Transition { old, new, actor: None },
            };
            table.apply(&event, &mut Vec::new());
        }
    }

    /// Asks at this second; which connections.
    fn ask(asking: &mut Translations, table: &Table, second: u64) -> Vec<u64> {
        let questions = asking.questions(table, MonoNs(second * SECOND));
        let mut ids: Vec<u64> = questions.into_iter().map(|question| question.id.0).collect();
        ids.sort_unstable();
        ids
    }

    fn translated(table: &Table, id: u64) -> Answer {
        let conn = table.find_open(SockId(id)).expect("it is there");
        let question = Question { id: conn.id, netns: conn.netns, tuple: conn.tuple };
        let remote = (bytes_of(Ipv4Addr::new(10, 9, 9, 9).into()), 8080);
        let local = (conn.tuple.local_addr, conn.tuple.local_port);
        (question, Some(Translation { local, remote }))
    }

    #[test]
    fn three_that_are_not_translated_speak_for_an_endpoint_for_a_minute() {
        let (mut table, mut asking) = (table(), Translations::default());
        (1..=5).for_each(|id| connect(&mut table, id, 2));
        connect(&mut table, 6, 3);
        let first = ask(&mut asking, &table, 0);
        assert_eq!(first.len(), 4, "three of five, and the other endpoint's: {first:?}");
        assert!(first.contains(&6));
        connect(&mut table, 7, 2);
        assert_eq!(ask(&mut asking, &table, 59), [0; 0]);
        let later = ask(&mut asking, &table, 60);
        assert_eq!(later.len(), 3, "those that were not asked for: {later:?}");
        assert!(later.iter().all(|id| !first.contains(id)));
        assert_eq!(ask(&mut asking, &table, 200), [0; 0]);
    }

    #[test]
    fn where_one_is_translated_each_is_asked_for_once() {
        let (mut table, mut asking) = (table(), Translations::default());
        (1..=5).for_each(|id| connect(&mut table, id, 2));
        let first = ask(&mut asking, &table, 0);
        let answer = translated(&table, first[0]);
        let bytes = asking.answered(&[answer]);
        for (id, ends) in names::translations(&bytes) {
            assert_eq!(id, first[0]);
            table.translate(SockId(id), ends.local, ends.remote);
        }
        let second = ask(&mut asking, &table, 1);
        assert_eq!(second.len(), 2, "{second:?}");
        assert_eq!(ask(&mut asking, &table, 2), [0; 0]);
    }

    #[test]
    fn a_look_has_a_limit_and_the_next_goes_on() {
        let (mut table, mut asking) = (table(), Translations::default());
        // Endpoints of their own.
        (0..1_200).for_each(|to| connect(&mut table, u64::from(to) + 1, to));
        asking.looks = FIRST_LOOKS;
        let first = ask(&mut asking, &table, 0);
        let second = ask(&mut asking, &table, 1);
        assert_eq!((first.len(), second.len()), (1_000, 200));
        assert!(second.iter().all(|id| !first.contains(id)));
        assert_eq!(ask(&mut asking, &table, 2), [0; 0]);
        // A list waits for the first.
        assert_eq!(ask(&mut Translations::default(), &table, 0).len(), 1_200);
    }
}
