//! What comes back, of anything; and that what comes in is bounded.

use proptest::prelude::*;
use tracer_common::wire::{HolderRow, Record, SocketRow};
use zerocopy::{FromZeros, IntoBytes};

use super::*;

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[RECORD], &length[..], bytes].concat()
}

fn long(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[tag], &length[..], bytes].concat()
}

/// Encodes, checks that the same comes back, and returns how long the columns are; `None` when there are none.
#[track_caller]
fn check(encoder: &mut Encoder, raw: &[u8]) -> Option<usize> {
    let columns = encoder.encode(raw)?.to_vec();
    assert!(columns.len() <= raw.len() + SLACK);
    let mut back = vec![7; 3];
    assert_eq!(Decoder::new().decode(&columns, raw.len(), &mut back), Ok(()));
    assert_eq!(back, raw);
    Some(columns.len())
}

/// The transitions of both ends of a connection, as they come: three of the client, three of the server.
fn connection(number: u64, time: &mut u64) -> Vec<Vec<u8>> {
    let steps = [(0, 7, 2), (0, 2, 1), (1, 10, 3), (1, 3, 1), (0, 1, 7), (1, 1, 7)];
    let port = 32_768 + u16::try_from(number * 7_919 % 28_000).unwrap();
    let records = steps.map(|(end, old, new)| {
        // Nothing regular about it.
        *time += 900 + number.wrapping_mul(0x9e37_79b9) % 3_000;
        let mut record = Record::new_zeroed();
        record.mono_ns = *time;
        record.id = 1_000 + number * 2 + end;
        record.netns = 4_026_531_840;
        (record.local_port, record.remote_port) = if end == 0 { (port, 80) } else { (80, port) };
        (record.kind, record.family, record.old_state, record.new_state) = (1, 2, old, new);
        record.local_addr[..4].copy_from_slice(&[127, 0, 0, 1]);
        record.remote_addr[..4].copy_from_slice(&[127, 1, 0, (number % 200) as u8]);
        record.comm[..4].copy_from_slice(b"load");
        record.srtt_us = 20 + u32::try_from(number * 31 % 17).unwrap();
        self::record(&record.as_bytes()[..if new == 1 { 128 } else { 144 }])
    });
    records.to_vec()
}

#[test]
fn connections_take_few_bytes() {
    let (mut time, mut raw) = (5_000_000_000, Vec::new());
    let count = 400;
    for number in 0..count {
        raw.extend(connection(number, &mut time).concat());
    }
    let mut encoder = Encoder::new();
    let length = check(&mut encoder, &raw).unwrap();
    let each = length as u64 / (count * 6);
    assert!((5..=12).contains(&each), "{each} bytes a transition");
    // Each frame is taken by itself.
    let once = encoder.encode(&raw).unwrap().to_vec();
    assert_eq!(encoder.encode(&raw), Some(&once[..]));
}

#[test]
fn rows_of_holders_take_few_bytes() {
    let mut rows = Vec::new();
    for number in 0..1_000 {
        let mut row = HolderRow::new_zeroed();
        (row.id, row.fd, row.pid) = (number * 3, u32::try_from(number).unwrap(), 77);
        row.mono_ns = 1_000_000_000_000 + number * 130;
        rows.extend_from_slice(row.as_bytes());
    }
    let raw = long(HOLDERS, &rows);
    let columns = Encoder::new().encode(&raw).unwrap().to_vec();
    let packed = lz4_flex::block::compress(&columns).len();
    assert!(packed < 1_000, "{packed} bytes");
    check(&mut Encoder::new(), &raw);
}

#[test]
fn every_kind_of_item_comes_back() {
    let raw = [
        record(SocketRow::new_zeroed().as_bytes()),
        record(&[]),
        record(&[1; 31]),
        record(&[2; 32]),
        record(&[3; 33]),
        record(&[4; 200]),
        vec![POLL_BEGIN],
        long(HOLDERS | MORE, &[5; 57]),
        long(HOLDERS, &[]),
        long(POLL_END, &[6; 17]),
        long(NAMES, b"names"),
        long(FACTS | MORE, b"{"),
        [&[LOST][..], &[7; 25]].concat(),
        [&[TICK][..], &[0xff; 8]].concat(),
        record(&[0xff; 64]),
        [&[ENDED][..], &[8; 24]].concat(),
    ];
    for count in 0..=raw.len() {
        assert!(check(&mut Encoder::new(), &raw[..count].concat()).is_some(), "{count}");
    }
}

#[test]
fn what_is_no_item_is_left_alone() {
    let mut encoder = Encoder::new();
    for raw in [
        &[0][..],
        &[10],
        &[RECORD | MORE, 0, 0],
        &[TICK | MORE, 0, 0, 0, 0, 0, 0, 0, 0],
        &[RECORD, 1],
        &[RECORD, 2, 0, 1],
        &[TICK, 1],
        &[HOLDERS, 1, 0, 0],
        &[HOLDERS, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(encoder.encode(raw), None, "{raw:?}");
    }
}

/// Columns that no encoder made: the tokens, and what else is in one.
fn columns(tokens: &[u8], (at, column): (usize, &[u8])) -> Vec<u8> {
    let mut lengths = vec![0; COLUMNS];
    lengths[TOKENS] = u8::try_from(tokens.len()).unwrap();
    lengths[at] = u8::try_from(column.len()).unwrap();
    [&lengths, tokens, column].concat()
}

#[test]
fn hostile_columns_are_refused() {
    let check = |bytes: &[u8], length: usize, why: &str| {
        let mut raw = Vec::new();
        assert_eq!(Decoder::new().decode(bytes, length, &mut raw), Err(why), "{bytes:?}");
        assert!(raw.len() <= length + 5, "{} of {length}", raw.len());
    };
    let (short, long) = ("a column is cut short", "its columns are longer than it");
    let senseless = "its columns make no sense";
    check(&[], 5, short);
    check(&[0xff; 20], 5, senseless);
    check(&[&[0xff, 0xff, 0xff, 0xff, 0x7f], &[0; COLUMNS - 1][..]].concat(), 5, short);
    check(&[vec![0; COLUMNS], vec![1]].concat(), 5, long);
    check(&columns(&[], (REST, &[])), 5, short);
    // An item that there is not, one that is longer than the frame, one that nothing is left of.
    check(&columns(&[NO_RECORD | 15], (REST, &[])), 5, senseless);
    check(&columns(&[NO_RECORD | TICK], (REST, &[0; 8])), 5, long);
    check(&columns(&[NO_RECORD | HOLDERS], (LENGTHS, &[0])), 2, long);
    check(&columns(&[NO_RECORD | HOLDERS], (LENGTHS, &[0xff, 0xff, 0xff, 0xff, 15])), 100, long);
    check(&columns(&[NO_RECORD | HOLDERS], (LENGTHS, &[9])), 100, short);
    check(&columns(&[AS_IT_IS], (LENGTHS, &[0xff, 0xff, 3])), 100, long);
    check(&columns(&[AS_IT_IS], (LENGTHS, &[0xff, 0xff, 7])), 1 << 20, senseless);
    check(&columns(&[AS_IT_IS | FIRST], (LENGTHS, &[1])), 100, senseless);
    // Of a socket's last record that was not.
    for back in [0, 1, 2, 0x7f] {
        check(&columns(&[0], (BACK, &[back])), 100, senseless);
    }
    check(&columns(&[FIRST], (COOKIES, &[0])), 100, senseless);
    // Something is left over.
    check(&columns(&[NO_RECORD | POLL_BEGIN], (REST, &[1])), 1, long);
}

/// A record that is like others, so that what is foreseen is sometimes right.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let length = prop::sample::select(vec![32, 64, 96, 128, 144, 184, 192, 30, 60, 200]);
    let changes = prop::collection::vec((16..192usize, 0..4u8), 0..6);
    (length, 0..6u8, 0..3u8, any::<u16>(), any::<bool>(), changes).prop_map(
        |(length, id, kind, time, far, changes)| {
            let mut bytes = vec![0; length];
            bytes[..2].copy_from_slice(&time.to_le_bytes());
            bytes[3] = if far { 0xff } else { 0 };
            (bytes[8], bytes[24]) = (id, kind);
            for (at, change) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = change;
                }
            }
            record(&bytes)
        },
    )
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn item() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => likely(),
        1 => bytes(250).prop_map(|bytes| record(&bytes)),
        1 => bytes(250).prop_map(|bytes| long(HOLDERS, &bytes)),
        1 => any::<[u8; 8]>().prop_map(|time| [&[TICK], &time[..]].concat()),
    ]
}

fn items() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(item(), 0..60).prop_map(|items| items.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// By encoders that have seen others.
    #[test]
    fn any_items_come_back(frames in prop::collection::vec(items(), 1..4)) {
        let mut encoder = Encoder::new();
        for raw in &frames {
            check(&mut encoder, raw);
        }
    }

    #[test]
    fn any_bytes_come_back(raw in prop::collection::vec(prop_oneof![0..10u8, any::<u8>()], 0..300)) {
        check(&mut Encoder::new(), &raw);
    }

    #[test]
    fn any_columns_are_survived(bytes in bytes(400), length in 0..3_000usize) {
        let mut raw = Vec::new();
        let done = Decoder::new().decode(&bytes, length, &mut raw);
        prop_assert!(done.is_err() || raw.len() == length);
    }

    /// One byte is another, or the frame shall have another length.
    #[test]
    fn changed_columns_are_survived(
        raw in items(), at in any::<prop::sample::Index>(), change in 1..=255u8, more in 0..2usize,
    ) {
        if let Some(columns) = Encoder::new().encode(&raw) {
            let mut columns = columns.to_vec();
            let at = at.index(columns.len());
            columns[at] ^= change;
            let mut back = Vec::new();
            let done = Decoder::new().decode(&columns, raw.len() + more, &mut back);
            prop_assert!(done.is_err() || back.len() == raw.len() + more);
        }
    }
}
