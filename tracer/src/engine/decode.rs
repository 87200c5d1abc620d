//! Wire bytes to typed events. Total: any bytes give an event or an error, never a panic.

use thiserror::Error;
use tracer_common::TcpState;
use tracer_common::state::UnknownState;
use tracer_common::wire::{
    AF_INET, AF_INET6, HolderRow, Record, RecordKind, SocketRow, UP_TO_ADDRESSES, UP_TO_CGROUP,
    UP_TO_DETAIL, ends, flags,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::event::{
    Actor, Again, Ages, Cause, Comm, Counters, Direction, Drop, Dropped, Event, Existing, Family,
    Holder, Place, Segment, Shape, SockId, SocketFlags, Tuple, What,
};
use crate::time::MonoNs;

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// As long as neither a `Record`, whole or cut where it may be, nor a `SocketRow`.
    #[error("record of {0} bytes")]
    Length(usize),
    /// Not a [`RecordKind`], or not one of this length.
    #[error("unknown record kind {0}")]
    Kind(u8),
    /// Neither IPv4 nor IPv6.
    #[error("unknown address family {0}")]
    Family(u8),
    /// Not a TCP state.
    #[error("unknown TCP state {0}")]
    State(u8),
    /// Nowhere that a segment can be dropped.
    #[error("unknown place of a drop {0}")]
    Place(u8),
}

impl From<UnknownState> for DecodeError {
    fn from(UnknownState(number): UnknownState) -> Self {
        DecodeError::State(number)
    }
}

/// Decodes a record of the ring ([`Record`]) or of `iter/tcp` ([`SocketRow`]), told by length.
///
/// # Errors
/// When the bytes are no such record.
pub fn event(bytes: &[u8]) -> Result<Event, DecodeError> {
    const WHOLE: usize = size_of::<Record>();
    const ROW: usize = size_of::<SocketRow>();
    // In the ring they are aligned: no copy.
    if let Ok(record) = Record::ref_from_bytes(bytes) {
        return from_record(record);
    }
    if bytes.len() == ROW {
        let row = SocketRow::read_from_bytes(bytes);
        return from_row(&row.map_err(|_| DecodeError::Length(ROW))?);
    }
    let mut record = Record::new_zeroed();
    let known = match bytes.len() {
        // Transitions without owner, and others that end with zeroes, come without those.
        UP_TO_ADDRESSES => fill::<UP_TO_ADDRESSES>(&mut record, bytes),
        UP_TO_CGROUP => fill::<UP_TO_CGROUP>(&mut record, bytes),
        UP_TO_DETAIL => fill::<UP_TO_DETAIL>(&mut record, bytes),
        WHOLE => fill::<WHOLE>(&mut record, bytes),
        _ => None,
    };
    known.ok_or(DecodeError::Length(bytes.len()))?;
    from_record(&record)
}

/// These are the first `N` bytes of a record. The length is known when this is compiled: no call for a few of them.
#[inline(always)]
fn fill<const N: usize>(record: &mut Record, bytes: &[u8]) -> Option<()> {
    let first: &[u8; N] = bytes.try_into().ok()?;
    *record.as_mut_bytes().first_chunk_mut()? = *first;
    Some(())
}

/// Decodes a row of `iter/task_file`.
///
/// # Errors
/// When the bytes are not of its length.
pub fn holder(bytes: &[u8]) -> Result<Holder, DecodeError> {
    let row = HolderRow::read_from_bytes(bytes).map_err(|_| DecodeError::Length(bytes.len()))?;
    Ok(Holder {
        id: SockId(row.id),
        address: if row.flags & flags::ID_IS_ADDRESS != 0 { row.id } else { 0 },
        pid: row.pid,
        fd: row.fd,
        comm: Comm::of_kernel(row.comm),
        start_ns: row.start_ns,
        at: MonoNs(row.mono_ns),
        // 0 is no state: rows of version 1 say nothing.
        state: TcpState::try_from(row.state).ok(),
        netns: row.netns,
        bound: row.ends & ends::BOUND != 0,
        connected: row.ends & ends::CONNECTED != 0,
    })
}

/// Inlined, as is [`common`], so that the event is made where it goes.
#[inline(always)]
fn from_record(record: &Record) -> Result<Event, DecodeError> {
    let kind = RecordKind::try_from(record.kind).map_err(DecodeError::Kind)?;
    let old = TcpState::try_from(record.old_state)?;
    let new = TcpState::try_from(record.new_state)?;
    let what = match kind {
        RecordKind::Transition => What::Transition { old, new, actor: actor(record) },
        RecordKind::Retransmit => What::Retransmit {
            segment: segment(record, new),
            state: new,
            times: 0,
            again: again(record),
        },
        RecordKind::RetransmitSynack => What::Retransmit {
            segment: Segment::SynAck,
            state: TcpState::SynRecv,
            // tcp_rtx_synack counts after its tracepoint.
            times: record.retransmits.saturating_add(1),
            again: Again::default(),
        },
        RecordKind::ResetSent => {
            let reason = if record.flags & flags::AGES == 0 { record.detail } else { 0 };
            What::Reset { direction: Direction::Sent, state: new, reason }
        }
        RecordKind::ResetReceived => {
            What::Reset { direction: Direction::Received, state: new, reason: 0 }
        }
        RecordKind::Error => What::Error { state: new },
        RecordKind::Dropped => What::Dropped(dropped(record)?),
        RecordKind::Socket => return Err(DecodeError::Kind(record.kind)),
    };
    common(record, what)
}

fn again(record: &Record) -> Again {
    let [why, _, low, high] = record.detail_more.to_le_bytes();
    let cause = Cause::of_wire(why);
    Again {
        cause,
        segments: u16::from_le_bytes([low, high]),
        rto: if cause == Some(Cause::Timeout) { record.tid } else { 0 },
        error: record.error,
    }
}

fn dropped(record: &Record) -> Result<Drop, DecodeError> {
    let [low, high, place, flags] = record.detail.to_le_bytes();
    Ok(Drop {
        reason: u16::from_le_bytes([low, high]),
        place: Place::of_wire(place).ok_or(DecodeError::Place(place))?,
        segment: Dropped::of(flags, record.srtt_us),
        payload: record.srtt_us,
        untold: record.retransmits,
    })
}

fn from_row(row: &SocketRow) -> Result<Event, DecodeError> {
    let record = &row.record;
    if record.kind != RecordKind::Socket as u8 {
        return Err(DecodeError::Kind(record.kind));
    }
    let shape = if record.flags & flags::REQUEST != 0 {
        Shape::Request
    } else if record.flags & flags::MINI != 0 {
        Shape::Mini
    } else {
        Shape::Full
    };
    let unanswered =
        if shape == Shape::Request { record.retransmits } else { u32::from(row.unanswered) };
    common(
        record,
        What::Socket(Existing {
            state: TcpState::try_from(record.new_state)?,
            shape,
            inode: row.inode,
            uid: row.uid,
            recv_queue: row.recv_queue,
            send_queue: row.send_queue,
            since_received: row.since_received,
            since_sent: row.since_sent,
            since_ack: row.since_ack,
            timer: row.timer,
            unanswered,
            probes: row.probes,
            deferred: row.deferred != 0,
        }),
    )
}

#[inline(always)]
fn common(record: &Record, what: What) -> Result<Event, DecodeError> {
    let is = |flag: u16| record.flags & flag != 0;
    let counters = is(flags::COUNTERS).then_some(Counters {
        bytes_sent: record.bytes_sent,
        // tcp_rcv_nxt_update counts the peer's FIN as a byte (tcp_data_queue, tcp_fin).
        bytes_received: record.bytes_received.saturating_sub(u64::from(is(flags::DONE))),
        retransmits: record.retransmits,
        srtt_us: (record.srtt_us != 0).then_some(record.srtt_us),
        got_twice: match what {
            What::Transition { old, new: TcpState::Close, .. } if old != TcpState::SynRecv => {
                record.detail
            }
            _ => 0,
        },
    });
    let ages = is(flags::AGES).then_some(Ages {
        since_sent: record.detail,
        since_received: record.detail_more,
        since_ack: if is(flags::OWNER) { 0 } else { record.tid },
        keepalive: is(flags::KEEPALIVE),
    });
    let mut detail = [0; 8];
    detail[..4].copy_from_slice(&record.detail.to_ne_bytes());
    detail[4..].copy_from_slice(&record.detail_more.to_ne_bytes());
    let address = match what {
        _ if is(flags::ID_IS_ADDRESS) => record.id,
        What::Transition { old: TcpState::SynRecv, .. } if ages.is_none() => {
            u64::from_ne_bytes(detail)
        }
        _ => 0,
    };
    Ok(Event {
        at: MonoNs(record.mono_ns),
        id: SockId(record.id),
        address,
        netns: record.netns,
        tuple: tuple(record)?,
        cgroup: record.cgroup,
        interface: match (is(flags::OWNER), is(flags::COUNTERS)) {
            (false, _) => record.pid,
            (true, false) => record.srtt_us,
            (true, true) => 0,
        },
        flags: SocketFlags {
            dead: is(flags::DEAD),
            fin_received: is(flags::DONE),
            has_socket: is(flags::HAS_SOCKET),
            shut_down: is(flags::RCV_SHUTDOWN) && is(flags::SEND_SHUTDOWN),
            keepalive: is(flags::KEEPALIVE),
            maybe_repeated: is(flags::SECOND),
            time_wait_full: is(flags::TIME_WAIT_FULL),
            id_is_address: is(flags::ID_IS_ADDRESS),
        },
        error: record.error,
        counters,
        ages,
        what,
    })
}

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

fn tuple(record: &Record) -> Result<Tuple, DecodeError> {
    let (local_addr, remote_addr, family) = match record.family {
        AF_INET => (mapped(record.local_addr), mapped(record.remote_addr), Family::V4),
        AF_INET6 => {
            // A dual-stack socket that has not bound yet has `::` on our side.
            let is_v4 =
                record.remote_addr.starts_with(&MAPPED) || record.local_addr.starts_with(&MAPPED);
            let family = if is_v4 { Family::V4 } else { Family::V6 };
            (record.local_addr, record.remote_addr, family)
        }
        other => return Err(DecodeError::Family(other)),
    };
    Ok(Tuple {
        local_addr,
        remote_addr,
        local_port: record.local_port,
        remote_port: record.remote_port,
        family,
    })
}

fn mapped(addr: [u8; 16]) -> [u8; 16] {
    let mut mapped = [0; 16];
    mapped[..12].copy_from_slice(&MAPPED);
    mapped[12..].copy_from_slice(&addr[..4]);
    mapped
}

fn actor(record: &Record) -> Option<Actor> {
    // Pid 0 is the idle task: a softirq after all.
    (record.flags & flags::OWNER != 0 && record.pid != 0).then_some(Actor {
        pid: record.pid,
        tid: record.tid,
        comm: Comm::of_kernel(record.comm),
        thread: Comm::of_kernel(record.thread),
        exiting: record.flags & flags::EXITING != 0,
    })
}

/// What a retransmitted segment was, by the state and its length in sequence numbers.
fn segment(record: &Record, state: TcpState) -> Segment {
    let closing = matches!(state, TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing);
    match state {
        TcpState::SynSent => Segment::Syn,
        TcpState::SynRecv => Segment::SynAck,
        _ if closing && record.detail == 1 && record.flags & flags::LAST_SEGMENT != 0 => {
            Segment::Fin
        }
        _ => Segment::Data,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn record() -> Record {
        let mut record = Record::read_from_bytes(&[0; 144]).expect("its size");
        record.kind = RecordKind::Transition as u8;
        record.family = AF_INET;
        record.old_state = 7;
        record.new_state = 2;
        record.local_addr[..4].copy_from_slice(&[127, 0, 0, 1]);
        record.remote_addr[..4].copy_from_slice(&[192, 0, 2, 7]);
        record.remote_port = 443;
        record
    }

    fn check(change: impl FnOnce(&mut Record), expect: impl FnOnce(Result<Event, DecodeError>)) {
        let mut record = record();
        change(&mut record);
        expect(event(record.as_bytes()));
    }

    #[test]
    fn a_transition_is_decoded() {
        check(
            |_| (),
            |event| {
                let event = event.expect("sound");
                assert_eq!(event.tuple.remote().to_string(), "192.0.2.7:443");
                assert_eq!(event.tuple.local().to_string(), "127.0.0.1:0");
                let What::Transition { old, new, actor } = event.what else { panic!("{event:?}") };
                assert_eq!((old, new, actor), (TcpState::Close, TcpState::SynSent, None));
            },
        );
    }

    #[test]
    fn a_record_without_the_zeroes_at_its_end_is_the_same() {
        let record = record();
        let whole = event(record.as_bytes());
        for length in [UP_TO_ADDRESSES, UP_TO_CGROUP, UP_TO_DETAIL] {
            assert_eq!(event(&record.as_bytes()[..length]), whole, "{length}");
        }
        for length in [0, 63, 65, 127, 143, 145] {
            let bytes = [0; 200];
            assert_eq!(event(&bytes[..length]), Err(DecodeError::Length(length)));
        }
    }

    #[test]
    fn what_stands_behind_a_name_is_no_part_of_it() {
        check(
            |record| {
                record.flags = flags::OWNER;
                record.pid = 7;
                record.comm = *b"java\0ystemd)\0\0\0\0";
                record.thread = *b"main\0\x01\xff\0\0\0\0\0\0\0\0\0";
            },
            |event| {
                let What::Transition { actor, .. } = event.expect("sound").what else { panic!() };
                let actor = actor.expect("an owner");
                assert_eq!((actor.comm, actor.thread), (Comm::new(b"java"), Comm::new(b"main")));
            },
        );
    }

    #[test]
    fn v4_mapped_addresses_are_ipv4_and_others_are_not() {
        check(
            |record| {
                record.family = AF_INET6;
                record.local_addr = [0; 16];
                record.remote_addr = mapped([198, 51, 100, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            },
            |event| {
                let tuple = event.expect("sound").tuple;
                assert_eq!(tuple.remote().to_string(), "198.51.100.1:443");
                assert_eq!(tuple.local().to_string(), "0.0.0.0:0");
            },
        );
        check(
            |record| {
                record.family = AF_INET6;
                record.local_addr = [0; 16];
                record.remote_addr = [0; 16];
            },
            |event| assert_eq!(event.expect("sound").tuple.local().to_string(), "[::]:0"),
        );
    }

    #[test]
    fn nonsense_is_named() {
        check(|r| r.kind = 99, |e| assert_eq!(e, Err(DecodeError::Kind(99))));
        check(|r| r.kind = 7, |e| assert_eq!(e, Err(DecodeError::Kind(7))));
        check(|r| r.family = 1, |e| assert_eq!(e, Err(DecodeError::Family(1))));
        check(|r| r.new_state = 77, |e| assert_eq!(e, Err(DecodeError::State(77))));
        assert_eq!(event(&[0; 3]), Err(DecodeError::Length(3)));
        assert_eq!(holder(&[0; 3]), Err(DecodeError::Length(3)));
    }

    #[test]
    fn a_bare_fin_is_told_from_data() {
        let with = |state: TcpState, length, last| {
            let mut record = record();
            record.kind = RecordKind::Retransmit as u8;
            record.new_state = state.number();
            record.detail = length;
            record.flags = if last { flags::LAST_SEGMENT } else { 0 };
            match event(record.as_bytes()).expect("sound").what {
                What::Retransmit { segment, .. } => segment,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with(TcpState::SynSent, 1, true), Segment::Syn);
        assert_eq!(with(TcpState::Established, 1, true), Segment::Data);
        assert_eq!(with(TcpState::FinWait1, 1, true), Segment::Fin);
        assert_eq!(with(TcpState::LastAck, 1, true), Segment::Fin);
        assert_eq!(with(TcpState::FinWait1, 1, false), Segment::Data);
        assert_eq!(with(TcpState::FinWait1, 1449, true), Segment::Data);
    }

    #[test]
    fn why_a_segment_was_sent_again() {
        let with = |more: u32, rto: u32, error: u16| {
            let mut record = record();
            record.kind = RecordKind::Retransmit as u8;
            (record.detail_more, record.tid, record.error) = (more, rto, error);
            match event(record.as_bytes()).expect("sound").what {
                What::Retransmit { again, .. } => again,
                other => panic!("{other:?}"),
            }
        };
        let again = |cause, segments, rto, error| Again { cause, segments, rto, error };
        // Of version 5 and before.
        assert_eq!(with(0, 0, 0), Again::default());
        assert_eq!(with(1 | 1 << 16, 50, 0), again(Some(Cause::Timeout), 1, 50, 0));
        // Only of a timeout it is what ran out.
        assert_eq!(with(2 | 3 << 16, 50, 0), again(Some(Cause::Fast), 3, 0, 0));
        assert_eq!(with(3 | 1 << 16, 50, 1), again(Some(Cause::Probe), 1, 0, 1));
        assert_eq!(with(4, 0, 0), again(Some(Cause::SlowStart), 0, 0, 0));
        for other in [5, 77] {
            assert_eq!(with(other, 50, 0), Again::default());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..260)) {
            let _ = event(&bytes);
            let _ = holder(&bytes);
        }

        #[test]
        fn no_record_sized_bytes_panic(bytes in proptest::array::uniform32(any::<u8>()), kind in 0u8..10) {
            let mut record = [0u8; 144];
            for (index, byte) in record.iter_mut().enumerate() {
                *byte = bytes[index % 32].wrapping_add(u8::try_from(index).unwrap_or(0));
            }
            record[24] = kind;
            let _ = event(&record);
            let mut row = [0u8; 192];
            row[..144].copy_from_slice(&record);
            let _ = event(&row);
        }
    }
}
