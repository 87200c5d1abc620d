//! Which socket has which stack.

use std::collections::HashSet;

use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;

fn record(kind: StackKind, id: u64, hash: u64) -> StackRecord {
    let mut record = StackRecord::new_zeroed();
    record.head = StackHead {
        mono_ns: 1,
        id,
        hash,
        pid: 7,
        tid: 8,
        kind: kind as u8,
        frames: 2,
        ..StackHead::new_zeroed()
    };
    record.frames[0].ip = hash;
    record
}

#[test]
fn a_stack_is_kept_once_and_its_sockets_counted() {
    let mut book = Book::default();
    let whole = record(StackKind::Connect, 1, 0xa);
    assert_eq!(book.take_in(whole.as_bytes()), None);
    let mut known = whole.head;
    known.id = 2;
    book.take_in(known.as_bytes());
    let opener = |id| *book.seen(SockId(id)).expect("seen").opener().expect("an opener");
    assert_eq!(opener(1).stack, opener(2).stack);
    let stack = book.stack(opener(1).stack.expect("kept")).expect("there");
    assert_eq!((stack.opened, stack.raw.frames.len()), (2, 2));
    // A hash whose stack was lost is no stack, but a thread all the same.
    known.hash = 0xb;
    book.take_in(known.as_bytes());
    let opener = *book.seen(SockId(2)).expect("seen").opener().expect("an opener");
    assert_eq!((opener.stack, opener.tid), (None, 8));
}

#[test]
fn who_reads_is_named_rather_than_who_accepts_but_not_than_who_connects() {
    let check = |kinds: &[StackKind], expect: StackKind| {
        let mut book = Book::default();
        for (&kind, hash) in kinds.iter().zip(1..) {
            book.take_in(record(kind, 1, hash).as_bytes());
        }
        let kind = book.seen(SockId(1)).and_then(|seen| Some(seen.opener()?.kind));
        assert_eq!(kind, Some(expect), "{kinds:?}");
    };
    use StackKind::{Accept, Connect, Read};
    check(&[Accept], Accept);
    check(&[Accept, Read], Read);
    check(&[Read, Accept], Read);
    check(&[Connect, Read], Connect);
    // Connected again: who read before does not count.
    check(&[Read, Connect], Connect);
}

#[test]
fn without_cookies_a_stack_is_of_the_socket_that_stood_there_then() {
    const MS: u64 = 1_000_000;
    // A thread at `at` ms, at that address a socket since `since` ms, looked for at `now` ms.
    let check = |kind, at: u64, since: Option<(u64, bool)>, now: u64, found: bool, waits: bool| {
        let mut book = Book::default();
        let mut record = record(kind, 0xffff_8880_0000_1000, 0xa);
        record.head.flags = flags::ID_IS_ADDRESS;
        record.head.mono_ns = at * MS;
        book.take_in(record.as_bytes());
        let living = since.map(|(since, connected)| {
            let since = MonoNs(since * MS);
            Living { id: SockId(3), since, connected }
        });
        book.settle(MonoNs(now * MS), |_| living);
        let case = format!("{kind:?} at {at}, socket since {since:?}, now {now}");
        assert_eq!(book.seen(SockId(3)).is_some(), found, "{case}");
        assert_eq!(!book.waiting.is_empty(), waits, "{case}");
    };
    use StackKind::{Accept, Connect, Read};
    // One program is before the other, whichever.
    check(Connect, 1_000, Some((1_001, true)), 1_002, true, false);
    check(Connect, 1_001, Some((1_000, true)), 1_002, true, false);
    // Its event has still to come; or never will.
    check(Connect, 1_000, None, 1_002, false, true);
    check(Connect, 1_000, Some((100, true)), 1_002, false, true);
    check(Connect, 1_000, None, 7_000, false, false);
    // The socket is gone, and another is there.
    for kind in [Connect, Accept, Read] {
        check(kind, 1_000, Some((1_100, true)), 1_200, false, false);
    }
    check(Connect, 1_000, Some((1_001, false)), 1_200, false, false);
    check(Read, 1_000, Some((1_001, false)), 1_200, false, false);
    check(Accept, 1_100, Some((1_000, false)), 1_200, true, false);
    check(Read, 9_000, Some((1_000, true)), 9_200, true, false);
}

#[test]
fn memory_is_kept_until_there_are_names() {
    let mut book = Book::default();
    let mut memory = StackMemory::new_zeroed();
    memory.record = record(StackKind::Connect, 1, 0xa);
    memory.words[1000] = 5;
    book.take_in(memory.as_bytes());
    let id = book.seen(SockId(1)).and_then(|seen| seen.opener()?.stack).expect("kept");
    assert_eq!(book.stack(id).expect("there").raw.top.len(), 1001);
    book.name(id, Named::default());
    assert_eq!(book.stack(id).expect("there").raw.top.len(), TOP_WORDS);
    assert_eq!(book.with_memory, 0);
}

/// Behind a large frame: the words at the top, and those behind it, each at its address.
#[test]
fn memory_behind_a_large_frame_is_kept_beside_the_top() {
    let mut book = Book::default();
    let mut memory = StackMemory::new_zeroed();
    memory.record = record(StackKind::Connect, 1, 0xa);
    memory.record.sp = 0x1000;
    memory.record.top[3] = 7;
    memory.record.head.far = 0x1_0200;
    memory.words[1000] = 5;
    book.take_in(memory.as_bytes());
    let id = book.seen(SockId(1)).and_then(|seen| seen.opener()?.stack).expect("kept");
    let raw = |book: &Book| Raw::clone(&book.stack(id).expect("there").raw);
    assert!(raw(&book).has_memory());
    let word = |address: u64| raw(&book).word(address);
    assert_eq!(word(0x1000 + 8 * 3), Some(7));
    assert_eq!(word(0x1_1200 + 8 * 1000), Some(5));
    for nothing in [0x1004, 0x1000 + 8 * TOP_WORDS as u64, 0x1_1200 + 8 * 1001] {
        assert_eq!(word(nothing), None, "{nothing:x}");
    }
    book.name(id, Named::default());
    assert!(!raw(&book).has_memory());
    assert_eq!(book.with_memory, 0);
}

#[test]
fn what_is_gone_is_forgotten_but_not_what_has_just_come() {
    let mut book = Book::default();
    book.take_in(record(StackKind::Connect, 1, 0xa).as_bytes());
    book.forget(MonoNs(2), |_| false, |_| true);
    assert_eq!(book.len(), 1);
    book.forget(MonoNs(A_MOMENT_NS + 2), |_| true, |_| true);
    assert_eq!(book.len(), 1);
    book.forget(MonoNs(A_MOMENT_NS + 2), |_| false, |_| true);
    assert!(book.is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_counted(bytes in proptest::collection::vec(any::<u8>(), 0..200), fill: u8) {
        let mut book = Book::default();
        book.take_in(&bytes);
        for length in [size_of::<StackHead>(), size_of::<StackRecord>(), size_of::<StackMemory>()] {
            let mut record = vec![fill; length];
            record[..bytes.len().min(length)].copy_from_slice(&bytes[..bytes.len().min(length)]);
            book.take_in(&record);
        }
    }
}

/// Each connects once, as `curl` in a loop does: what never comes again is not kept for long, and what may come is.
#[test]
fn stacks_of_processes_that_have_ended_are_let_go_of() {
    let mut book = Book::default();
    let mut kernel_knows = HashSet::new();
    for second in 0..10_000u32 {
        let id = u64::from(second) + 1;
        // Every hundredth process lives on, and one in a thousand sockets stays open.
        let mut whole = record(StackKind::Connect, id, id);
        whole.head.pid = second;
        whole.head.mono_ns = id * 1_000_000_000;
        kernel_knows.insert(id);
        book.take_in(whole.as_bytes());
        let now = MonoNs(id * 1_000_000_000 + 1);
        book.forget(now, |id| id.0.is_multiple_of(1000), |pid| pid.is_multiple_of(100));
        for hash in book.forgotten() {
            kernel_knows.remove(&hash);
        }
        assert!(book.stacks.len() < 600, "{} at {second}", book.stacks.len());
    }
    let known: HashSet<u64> = book.stacks.values().map(|stack| stack.hash).collect();
    assert_eq!(known, kernel_knows);
    assert!((0..100).all(|number| known.contains(&(number * 100 + 1))), "a living process's");
    assert!((1..=10).all(|number| known.contains(&(number * 1000))), "an open socket's");
}

#[test]
fn stacks_of_a_burst_are_let_go_of_when_its_processes_have_ended() {
    const SECOND: u64 = 1_000_000_000;
    let mut book = Book::default();
    for number in 0..5_000u32 {
        let mut whole = record(StackKind::Connect, u64::from(number) + 1, u64::from(number) + 1);
        (whole.head.pid, whole.head.mono_ns) = (number, 100 * SECOND);
        book.take_in(whole.as_bytes());
    }
    book.forget(MonoNs(101 * SECOND), |_| true, |_| true);
    assert_eq!(book.stacks.len(), 5_000);
    book.forget(MonoNs(150 * SECOND), |_| false, |_| false);
    assert_eq!(book.stacks.len(), 5_000, "not every second all processes are asked for");
    book.forget(MonoNs(170 * SECOND), |_| false, |_| false);
    assert_eq!((book.stacks.len(), book.forgotten().len()), (0, 5_000));
}

/// A socket in TIME_WAIT outlives the process that closed it.
#[test]
fn memory_of_stacks_whose_processes_have_ended_is_let_go_of() {
    let mut book = Book::default();
    let mut memory = StackMemory::new_zeroed();
    memory.words = [1; MEMORY_WORDS];
    for second in 0..1_000u32 {
        let id = u64::from(second) + 1;
        memory.record = record(StackKind::Connect, id, id);
        memory.record.head.pid = second;
        memory.record.head.mono_ns = id * 1_000_000_000;
        book.take_in(memory.as_bytes());
        book.forget(MonoNs(id * 1_000_000_000), |_| true, |pid| pid < 10);
        assert!(book.with_memory <= 80, "{} at {second}", book.with_memory);
    }
    let heavy: Vec<u32> =
        book.stacks.values().filter(|it| it.is_heavy()).map(|it| it.raw.pid).collect();
    assert_eq!(heavy.iter().filter(|&&pid| pid < 10).count(), 10, "{heavy:?}");
    assert_eq!(heavy.len(), book.with_memory);
    assert_eq!(book.stacks.len(), 1_000, "their sockets are there");
}

#[test]
fn room_that_a_burst_needed_is_given_back() {
    let mut book = Book::default();
    for id in 1..=100_000 {
        book.take_in(record(StackKind::Connect, id, 1).as_bytes());
    }
    assert!(book.sockets.capacity() >= 100_000);
    book.forget(MonoNs(A_MOMENT_NS + 2), |id| id.0 < 1_000, |_| true);
    let (kept, room) = (book.len(), book.sockets.capacity());
    assert!(kept == 999 && room < 4_000, "{kept} {room}");
}

/// A busy service opens and closes with stacks that are never the same: those that stay open have room.
#[test]
fn memory_of_stacks_that_no_socket_has_gives_room_to_others() {
    const SECOND: u64 = 1_000_000_000;
    let mut book = Book::default();
    let mut kernel_knows = HashSet::new();
    let mut memory = StackMemory::new_zeroed();
    memory.words = [1; MEMORY_WORDS];
    for round in 0..10u64 {
        for at in 0..400u64 {
            let id = round * 400 + at + 1;
            memory.record = record(StackKind::Connect, id, id);
            memory.record.head.mono_ns = round * SECOND;
            kernel_knows.insert(id);
            book.take_in(memory.as_bytes());
        }
        // Only the first of each round stays.
        book.forget(MonoNs((round + 1) * SECOND + 1), |id| id.0 % 400 == 1, |_| true);
        for hash in book.forgotten() {
            kernel_knows.remove(&hash);
        }
    }
    let stack =
        |id| book.stack(book.seen(SockId(id)).expect("seen").opened.expect("opened").stack?);
    for round in 0..10 {
        let stack = stack(round * 400 + 1).expect("a stack");
        assert!(stack.is_heavy(), "the stack of round {round} has lost its memory");
    }
    // What the kernel thinks is known is known.
    let known: HashSet<u64> = book.stacks.values().map(|stack| stack.hash).collect();
    assert_eq!(known, kernel_knows);
    assert!(book.with_memory < MOST_WITH_MEMORY, "{}", book.with_memory);
}

fn by_thread(kind: StackKind, id: u64, tid: u32, at_s: u64) -> StackRecord {
    let mut record = record(kind, id, id << 8 | u64::from(tid) << 4 | kind as u64);
    record.head.tid = tid;
    record.head.mono_ns = at_s * 1_000_000_000;
    record
}

/// What a thread does after it has read a request is done for that request, until it reads another, and for a
/// while only.
#[test]
fn what_a_thread_does_next_is_of_the_request_it_has_read() {
    use StackKind::{Accept, Connect, Handle, Read};
    let check = |steps: &[(StackKind, u64, u32, u64)], expect: [Option<u64>; 2]| {
        let mut book = Book::default();
        for &(kind, id, tid, at_s) in steps {
            book.take_in(by_thread(kind, id, tid, at_s).as_bytes());
        }
        let handled = |id| Some(book.seen(SockId(id))?.handled.at?.0 / 1_000_000_000);
        assert_eq!([handled(1), handled(2)], expect, "{steps:?}");
    };
    let begin = [(Accept, 1, 1, 1), (Accept, 2, 1, 1), (Read, 1, 7, 2)];
    let check = |more: &[(StackKind, u64, u32, u64)], expect| {
        check(&[&begin[..], more].concat(), expect);
    };
    check(&[], [None, None]);
    check(&[(Connect, 9, 7, 3)], [Some(3), None]);
    check(&[(Connect, 9, 7, 3), (Read, 9, 7, 4)], [Some(4), None]);
    // A system call that has nothing to do with a socket.
    check(&[(Handle, 0, 7, 3), (Handle, 0, 7, 5)], [Some(5), None]);
    // Another thread; too late; after the next request.
    check(&[(Connect, 9, 8, 3)], [None, None]);
    check(&[(Handle, 0, 8, 3)], [None, None]);
    check(&[(Handle, 0, 7, 13)], [None, None]);
    check(&[(Read, 2, 7, 3), (Handle, 0, 7, 4)], [None, Some(4)]);
    check(&[(Connect, 9, 7, 13)], [None, None]);
    check(&[(Read, 2, 7, 3), (Connect, 9, 7, 4)], [None, Some(4)]);
    // Whether that is a client's or a server's nobody saw: it may be the next request.
    check(&[(Read, 5, 7, 3), (Connect, 9, 7, 4)], [None, None]);
}

/// A few stacks of what a thread does are kept, each once, the newest first.
#[test]
fn stacks_of_what_a_thread_does_next_are_kept_each_once() {
    let mut book = Book::default();
    for (kind, id) in [(StackKind::Accept, 1), (StackKind::Read, 1)] {
        book.take_in(by_thread(kind, id, 7, 1).as_bytes());
    }
    for hash in [0xa, 0xb, 0xa, 0xc, 0xd, 0xe, 0xf, 0x10, 0xc] {
        let mut step = record(StackKind::Handle, 0, hash);
        (step.head.tid, step.head.mono_ns) = (7, 2_000_000_000);
        book.take_in(step.as_bytes());
    }
    let seen = book.seen(SockId(1)).expect("it was accepted");
    let kept: Vec<u64> = seen.handled.stacks().map(|id| book.stacks[&id].hash).collect();
    assert_eq!(kept, [0xc, 0x10, 0xf, 0xe, 0xd, 0xa]);
    assert!(book.seen(SockId(0)).is_none(), "a socket was made up");
    // As long as the socket is there, so are they.
    book.let_go_of_unused(MonoNs(3_600_000_000_000), |_| true, |_| true);
    assert!(kept.iter().all(|hash| book.by_hash.contains_key(hash)));
}

#[test]
fn stacks_of_what_was_collected_are_kept_and_named() {
    let mut book = Book::default();
    book.take_in(record(StackKind::Connect, 1, 0xa).as_bytes());
    assert_eq!(book.collected_nameless().count(), 0);
    book.collected(SockId(1));
    book.collected(SockId(2));
    assert_eq!(book.collected_nameless().count(), 1);
    let late = MonoNs(3_600_000_000_000);
    book.let_go_of_unused(late, |_| false, |_| true);
    assert_eq!(book.collected_nameless().count(), 1, "it was let go");
    assert!(book.forgotten().is_empty());
}
