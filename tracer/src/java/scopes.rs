//! Which methods, one inlined into the other, a piece of compiled code stands for: the debug information of
//! an `nmethod`.
//!
//! Its table of `PcDesc`s, in order, has an entry for each address at which the JVM may have to know, every
//! return address among them. The entry says where in the stream of scopes the innermost one begins; each
//! scope (`ScopeDesc::decode_body`) says where its caller's begins, which method it is (a number in the
//! nmethod's table of metadata, from 1 on), and at which bytecode it stands.

use crate::java::unsigned5::Encoding;

/// Methods inlined into one another that are followed: the JVM's own limits are far lower
/// (`MaxInlineLevel`, 9 to 15, and as many again for recursion and lambda forms).
pub const MOST_DEPTH: usize = 64;
/// Entries of a table of `PcDesc`s: more is no table.
pub const MOST_PCS: u32 = 1 << 20;
/// `InvocationEntryBci`, the smallest that is written as a bytecode index, is -1.
const BIAS: u32 = 1;

/// A method within compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its place in the nmethod's table of metadata, from 1 on.
    pub method: u32,
    /// The bytecode it stands at.
    pub bytecode: u32,
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcDesc {
    /// Offset of the address from the beginning of the code.
    pub pc: i32,
    /// Where its innermost scope begins in the stream; 0 where it has none.
    pub scope: i32,
}

/// The entry for an address, `pc` bytes behind the beginning of the code: its own, else the next one behind
/// it (`pc_desc_near`). `at` reads an entry.
pub fn find(count: u32, pc: i32, at: impl Fn(u32) -> Option<PcDesc>) -> Option<PcDesc> {
    let (mut low, mut high) = (0, count.min(MOST_PCS));
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = at(middle)?;
        match entry.pc.cmp(&pc) {
            std::cmp::Ordering::Equal => return Some(entry),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    // The last entry is a mark, behind all code.
    (low < count.min(MOST_PCS)).then(|| at(low))?
}

/// The scopes from the one at `offset` to the outermost, innermost first. `byte` reads the stream. Empty when
/// any of it makes no sense.
pub fn chain(offset: i32, encoding: Encoding, byte: impl Fn(u32) -> Option<u8>) -> Vec<Scope> {
    let mut scopes = Vec::new();
    let mut offset = u32::try_from(offset).unwrap_or(0);
    // `serialized_null`: there is no further one.
    while offset != 0 {
        let Some((scope, sender)) = scope_at(offset, encoding, &byte) else { return Vec::new() };
        if scopes.len() >= MOST_DEPTH {
            return Vec::new();
        }
        scopes.push(scope);
        offset = sender;
    }
    scopes
}

fn scope_at(
    offset: u32,
    encoding: Encoding,
    byte: &impl Fn(u32) -> Option<u8>,
) -> Option<(Scope, u32)> {
    let mut at = offset;
    let mut number = || {
        encoding.unsigned(|| {
            let byte = byte(at)?;
            at = at.checked_add(1)?;
            Some(byte)
        })
    };
    let (sender, method, bytecode) = (number()?, number()?, number()?);
    // Before its first bytecode (`SynchronizationEntryBCI`) it stands at the first.
    let scope = Scope { method, bytecode: bytecode.saturating_sub(BIAS) };
    (method != 0).then_some((scope, sender))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::java::unsigned5::tests::write;

    /// A stream of scopes, outermost first, each as (method, bytecode as written); where the last begins.
    fn stream(encoding: Encoding, scopes: &[(u32, u32)]) -> (Vec<u8>, u32) {
        // A byte that no offset leads to, as the JVM leaves one.
        let (mut bytes, mut sender) = (vec![0], 0);
        for &(method, bytecode) in scopes {
            let here = u32::try_from(bytes.len()).expect("short");
            for number in [sender, method, bytecode] {
                write(encoding, number, &mut bytes);
            }
            sender = here;
        }
        (bytes, sender)
    }

    fn read(bytes: &[u8], offset: i32, encoding: Encoding) -> Vec<Scope> {
        chain(offset, encoding, |at| bytes.get(usize::try_from(at).ok()?).copied())
    }

    fn check(encoding: Encoding, written: &[(u32, u32)], expect: &[(u32, u32)]) {
        let (bytes, offset) = stream(encoding, written);
        let found = read(&bytes, offset.cast_signed(), encoding);
        let found: Vec<(u32, u32)> = found.iter().map(|s| (s.method, s.bytecode)).collect();
        assert_eq!(found, expect, "{encoding:?}");
    }

    #[test]
    fn inlined_methods_come_innermost_first() {
        for encoding in [Encoding::Plain, Encoding::NoZero] {
            check(encoding, &[(3, 11), (500, 6), (1, 1)], &[(1, 0), (500, 5), (3, 10)]);
            check(encoding, &[(3, 0)], &[(3, 0)]);
            // A scope without a method is none, and what leads to it neither.
            check(encoding, &[(0, 1), (2, 1)], &[]);
            check(encoding, &[], &[]);
        }
    }

    #[test]
    fn a_circle_of_scopes_ends() {
        // Its caller is itself.
        let bytes = [0, 1, 2, 3];
        assert_eq!(read(&bytes, 1, Encoding::Plain), []);
        assert_eq!(read(&bytes, -1, Encoding::Plain), []);
        assert_eq!(read(&bytes, 9, Encoding::Plain), []);
    }

    #[test]
    fn an_address_has_its_own_entry_or_the_next() {
        let table = [(-1, 0), (16, 1), (40, 9), (i32::MAX, 0)];
        let at = |index: u32| {
            let &(pc, scope) = table.get(usize::try_from(index).ok()?)?;
            Some(PcDesc { pc, scope })
        };
        let check = |pc, expect| assert_eq!(find(4, pc, at).map(|found| found.scope), expect);
        check(16, Some(1));
        check(17, Some(9));
        check(40, Some(9));
        check(41, Some(0));
        assert_eq!(find(0, 16, at), None);
        assert_eq!(find(u32::MAX, 16, at), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_scopes_or_none(bytes: Vec<u8>, offset: i32, no_zero: bool) {
            let encoding = if no_zero { Encoding::NoZero } else { Encoding::Plain };
            prop_assert!(read(&bytes, offset, encoding).len() <= MOST_DEPTH);
        }

        #[test]
        fn any_table_gives_an_entry_or_none(
            table: Vec<(i32, i32)>,
            count: u32,
            pc: i32,
        ) {
            let at = |index: u32| {
                let &(pc, scope) = table.get(usize::try_from(index).ok()?)?;
                Some(PcDesc { pc, scope })
            };
            let _ = find(count, pc, at);
        }
    }
}
