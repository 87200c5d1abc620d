//! What DNS was asked, and when it may be asked again. Pure: time is an argument.

use std::collections::HashMap;

use crate::names::Addr;
use crate::time::MonoNs;

/// Most addresses that are remembered; others are not asked for.
const MOST: usize = 4_096;
const SECOND: u64 = 1_000_000_000;
/// A name may change; who looks it up for people need not obey its time to live.
const NAMED_NS: u64 = 600 * SECOND;
/// No name, or no answer.
const NAMELESS_NS: u64 = 120 * SECOND;

/// The addresses.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// By address: until when it need not be asked, and whether it has a name. On its way: `None`.
    until: HashMap<Addr, Option<(MonoNs, bool)>>,
    /// There were more; they are counted once for each time they were met.
    pub(super) refused: u64,
}

impl Asked {
    /// Whether this one is to be asked now. If so, it is on its way.
    pub(super) fn take(&mut self, addr: Addr, now: MonoNs) -> bool {
        match self.until.get(&addr) {
            Some(None) => return false,
            Some(Some((until, _))) if now < *until => return false,
            Some(Some(_)) => {}
            None if self.until.len() >= MOST => {
                self.refused += 1;
                return false;
            }
            None => {}
        }
        self.until.insert(addr, None);
        true
    }

    /// Is not on its way after all.
    pub(super) fn put_back(&mut self, addr: &Addr) {
        self.until.remove(addr);
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, addr: Addr, named: bool, now: MonoNs) {
        let ns = if named { NAMED_NS } else { NAMELESS_NS };
        self.until.insert(addr, Some((now.after(ns), named)));
    }

    /// Makes room: forgets what may be asked again, so that nobody asks for it any more. Returns those that had a name.
    pub(super) fn forget_old(&mut self, now: MonoNs) -> Vec<Addr> {
        if self.until.len() < MOST {
            return Vec::new();
        }
        let mut named = Vec::new();
        self.until.retain(|addr, until| match until {
            Some((until, has_name)) if *until <= now => {
                named.extend(has_name.then_some(*addr));
                false
            }
            _ => true,
        });
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_once_until_its_time_is_over() {
        let mut asked = Asked::default();
        let now = MonoNs(5);
        assert!(asked.take([1; 16], now));
        assert!(!asked.take([1; 16], now), "it is on its way");
        asked.answered([1; 16], true, now);
        assert!(!asked.take([1; 16], now.after(NAMED_NS - 1)));
        assert!(asked.take([1; 16], now.after(NAMED_NS)));
        asked.answered([1; 16], false, now);
        assert!(!asked.take([1; 16], now.after(NAMELESS_NS - 1)));
        assert!(asked.take([1; 16], now.after(NAMELESS_NS)));
        asked.put_back(&[1; 16]);
        assert!(asked.take([1; 16], now));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut asked = Asked::default();
        for number in 0..MOST as u128 + 10 {
            let addr = number.to_be_bytes();
            assert_eq!(asked.take(addr, MonoNs(0)), number < MOST as u128);
            if number < 100 {
                asked.answered(addr, number < 7, MonoNs(0));
            }
        }
        assert_eq!((asked.until.len(), asked.refused), (MOST, 10));
        let gone = asked.forget_old(MonoNs(NAMED_NS));
        assert_eq!((asked.until.len(), gone.len()), (MOST - 100, 7));
        assert!(asked.take([0xff; 16], MonoNs(0)));
    }
}
