//! Both ends against each other, and the reader against files that are cut, changed or hostile.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tracer_common::wire::{OLDEST_WIRE_VERSION, WIRE_VERSION};

use super::*;
use crate::engine::conn::{Poll, PollKind};
use crate::event::{Loss, LossCause};
use crate::filter::Filter;
use crate::input::{Input, Origin};
use crate::output::record::Writer;
use crate::record_format::{
    self as format, ENDED, FORMAT_VERSION, FRAME, FRAME_FULL, HEADER, HEADER_CRC, HOLDERS,
    LONG_HEAD, MAX_FRAME, MAX_LONG, MORE, POLL_BEGIN, POLL_END, RECORD,
};
use crate::time::MonoNs;

const ENDED_ITEM: Ended = Ended { events: 3, connections: 2, at: MonoNs(99) };

fn origin() -> Origin {
    Origin {
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        machine: "x86_64".into(),
        hooks: vec!["inet_sock_set_state".into(), "iter/tcp".into()],
        filters: vec!["--port 8089".into()],
        wall_at_zero: -5,
        start_ns: 7,
        jiffy_ns: 4_000_000,
        jiffies: None,
        reset_reasons: vec![String::new(), "NO_SOCKET".into()],
        drop_reasons: vec!["A".into()],
        only_netns: Some(7),
        only_cgroup: true,
        segment: None,
    }
}

/// An item that owns its bytes.
#[derive(Clone, PartialEq, Debug)]
enum Owned {
    Record(Vec<u8>),
    PollBegin,
    PollEnd(Poll, MonoNs),
    Holders(Vec<u8>),
    Names(Vec<u8>),
    Facts(Vec<u8>),
    Lost(Loss),
    Tick(MonoNs),
    Ended(Ended),
}

impl Owned {
    fn of(item: Item<'_>) -> Owned {
        match item {
            Item::Input(Input::Record(bytes)) => Owned::Record(bytes.to_vec()),
            Item::Input(Input::PollBegin) => Owned::PollBegin,
            Item::Input(Input::PollEnd { poll, now }) => Owned::PollEnd(poll, now),
            Item::Input(Input::Holders(bytes)) => Owned::Holders(bytes.to_vec()),
            Item::Input(Input::Names(bytes)) => Owned::Names(bytes.to_vec()),
            Item::Input(Input::Facts(bytes)) => Owned::Facts(bytes.to_vec()),
            Item::Input(Input::Lost(loss)) => Owned::Lost(loss),
            Item::Input(Input::Tick(now)) => Owned::Tick(now),
            Item::Ended(ended) => Owned::Ended(ended),
        }
    }

    fn input(&self) -> Input<'_> {
        match self {
            Owned::Record(bytes) => Input::Record(bytes),
            Owned::PollBegin => Input::PollBegin,
            Owned::PollEnd(poll, now) => Input::PollEnd { poll: poll.clone(), now: *now },
            Owned::Holders(bytes) => Input::Holders(bytes),
            Owned::Names(bytes) => Input::Names(bytes),
            Owned::Facts(bytes) => Input::Facts(bytes),
            Owned::Lost(loss) => Input::Lost(*loss),
            Owned::Tick(now) => Input::Tick(*now),
            Owned::Ended(_) => panic!("not an input"),
        }
    }
}

/// One of every kind.
fn one_of_each() -> Vec<Owned> {
    let poll = Poll { began: MonoNs(40), netns: vec![4_026_531_840, 7], kind: PollKind::Minis };
    vec![
        Owned::Record((0..144).collect()),
        Owned::PollBegin,
        Owned::Record(vec![9; 192]),
        Owned::PollEnd(poll, MonoNs(50)),
        Owned::Holders(vec![1; 112]),
        Owned::Names(b"c\x01".to_vec()),
        Owned::Facts(b"{\"at\":5}".to_vec()),
        Owned::Lost(Loss {
            count: 12,
            cause: LossCause::Table,
            from: MonoNs(60),
            to: MonoNs(u64::MAX),
        }),
        Owned::Tick(MonoNs(70)),
    ]
}

/// A recording with a frame after every `per_frame` inputs.
fn recording(inputs: &[Owned], per_frame: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &origin()).unwrap();
    for (n, input) in inputs.iter().enumerate() {
        writer.push(&input.input()).unwrap();
        if (n + 1) % per_frame == 0 {
            writer.flush().unwrap();
        }
    }
    writer.finish(ENDED_ITEM).unwrap()
}

/// Everything up to the end or the error; checks that nothing comes after either.
fn read(bytes: &[u8]) -> (Vec<Owned>, Option<ReadError>) {
    let mut items = Vec::new();
    let mut reader = match Reader::open(bytes) {
        Ok((_, reader)) => reader,
        Err(error) => return (items, Some(error)),
    };
    let error = loop {
        match reader.next() {
            Ok(Some(item)) => items.push(Owned::of(item)),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert_eq!(reader.next().unwrap(), None);
    (items, error)
}

fn read_all(bytes: &[u8]) -> Vec<Owned> {
    let (items, error) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    items
}

/// Offsets of the frames, and of the end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut frames = vec![HEADER + number(HEADER_CRC - 4)];
    while *frames.last().unwrap() < bytes.len() {
        let last = *frames.last().unwrap();
        frames.push(last + FRAME + number(last));
    }
    frames
}

/// A header without frames, its fixed part changed, with the crc made right.
fn header(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = Writer::new(Vec::new(), &origin()).unwrap().finish(ENDED_ITEM).unwrap();
    bytes.truncate(frames(&bytes)[0]);
    change(&mut bytes[..HEADER_CRC]);
    let crc = format::header_crc(&bytes[..HEADER_CRC], &bytes[HEADER..]);
    bytes[HEADER_CRC..HEADER].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Adds a frame with a right crc.
fn add_frame(bytes: &mut Vec<u8>, raw: &[u8]) {
    add_packed(bytes, &packed(raw), raw.len());
}

/// A block that is packed in the simplest way.
fn packed(raw: &[u8]) -> Vec<u8> {
    [&[0], &lz4_flex::block::compress(raw)[..]].concat()
}

/// A block of columns, which no writer made.
fn packed_columns(columns: &[u8], length: usize) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_le_bytes();
    [&[1], &length[..], &lz4_flex::block::compress(columns)].concat()
}

fn add_packed(bytes: &mut Vec<u8>, packed: &[u8], raw_length: usize) {
    let mut head = u32::try_from(packed.len()).unwrap().to_le_bytes().to_vec();
    head.extend(u32::try_from(raw_length).unwrap().to_le_bytes());
    let crc = format::frame_crc(bytes.len() as u64, &head, packed);
    head.extend(crc.to_le_bytes());
    bytes.extend(head);
    bytes.extend(packed);
}

fn part(tag: u8, payload: &[u8]) -> Vec<u8> {
    let mut item = vec![tag];
    item.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    item.extend(payload);
    item
}

fn open_error(bytes: &[u8]) -> ReadError {
    Reader::open(bytes).map(drop).expect_err("must not open")
}

#[test]
fn everything_comes_back() {
    let mut items = one_of_each();
    for per_frame in [1, 2, 100] {
        let bytes = recording(&items, per_frame);
        assert_eq!(Reader::open(&bytes[..]).unwrap().0, origin());
        items.push(Owned::Ended(ENDED_ITEM));
        assert_eq!(read_all(&bytes), items);
        items.pop();
    }
    assert_eq!(read_all(&recording(&[], 1)), [Owned::Ended(ENDED_ITEM)]);
}

#[test]
fn items_larger_than_a_frame_come_back() {
    let rows = |length: usize| (0..length).map(|n| (n / 7 % 251) as u8).collect::<Vec<u8>>();
    let poll = Poll { began: MonoNs(1), netns: (0..100_000).collect(), kind: PollKind::All };
    let items = [
        Owned::Record(vec![3; usize::from(u16::MAX)]),
        Owned::Holders(rows(100_000 * 56)),
        Owned::PollEnd(poll, MonoNs(2)),
        Owned::Record(vec![4; 144]),
        Owned::Holders(rows(3 * FRAME_FULL)),
        Owned::Holders(Vec::new()),
    ];
    let bytes = recording(&items, 100);
    assert!(frames(&bytes).len() > 10);
    let read = read_all(&bytes);
    assert_eq!(read[..items.len()], items);
    assert_eq!(read[items.len()..], [Owned::Ended(ENDED_ITEM)]);

    // A cut between two parts: nothing of that item is delivered.
    let cut = frames(&bytes)[5];
    let (read, error) = self::read(&bytes[..cut]);
    assert_eq!(read, items[..1]);
    assert!(matches!(error, Some(ReadError::Truncated { at }) if at == cut as u64));
}

#[test]
fn parts_fit_into_what_a_frame_has_left() {
    let head = 3;
    for left in 0..=LONG_HEAD + 2 {
        let mut items = vec![Owned::Record(vec![5; 60_000 - head]); 8];
        items.push(Owned::Record(vec![6; FRAME_FULL - 480_000 - head - left]));
        for length in [0, 1, 2, 3, FRAME_FULL - LONG_HEAD, FRAME_FULL] {
            items.push(Owned::Holders(vec![7; length]));
        }
        let read = read_all(&recording(&items, 1000));
        assert_eq!(read[..items.len()], items, "{left} bytes left");
    }
}

#[test]
fn what_is_whole_before_a_cut_is_delivered() {
    let items = one_of_each();
    for per_frame in [1, 3] {
        let bytes = recording(&items, per_frame);
        let frames = frames(&bytes);
        for cut in 0..bytes.len() {
            let (read, error) = read(&bytes[..cut]);
            let whole = frames.iter().filter(|&&end| end <= cut).count().saturating_sub(1);
            assert_eq!(read, items[..(whole * per_frame).min(items.len())], "cut at {cut}");
            let at = if cut < frames[0] { 0 } else { frames[whole] };
            let error = error.expect("a cut is an error");
            assert!(matches!(error, ReadError::Truncated { .. }), "cut at {cut}: {error}");
            assert_eq!(error.offset(), Some(at as u64), "cut at {cut}");
            assert!(at <= cut);
        }
    }
}

/// The crcs find every change of up to 32 neighbouring bits, so no change of a byte may pass, and
/// nothing wrong may be delivered before it is found.
#[test]
fn no_changed_byte_passes() {
    let items = one_of_each();
    let bytes = recording(&items, 2);
    for at in 0..bytes.len() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            let (read, error) = read(&changed);
            let error = error.unwrap_or_else(|| panic!("byte {at} ^ {change} passed"));
            assert!(error.offset().is_none_or(|offset| offset <= at as u64), "{at}: {error}");
            assert!(read.len() <= items.len());
            assert_eq!(read, items[..read.len()]);
        }
    }
}

#[test]
fn lost_moved_and_added_frames_are_found() {
    let bytes = recording(&one_of_each(), 2);
    let frames = frames(&bytes);
    let frame = |n: usize| &bytes[frames[n]..frames[n + 1]];
    let damaged = |bytes: &[u8], at: usize, what: &str| {
        let error = read(bytes).1.expect("must be found");
        assert_eq!(error.to_string(), format!("damaged at byte {at}: {what}"));
    };
    let lost = [&bytes[..frames[1]], &bytes[frames[2]..]].concat();
    damaged(&lost, frames[1], "the checksum is wrong");
    let twice = [&bytes[..frames[1]], frame(0), &bytes[frames[1]..]].concat();
    damaged(&twice, frames[1], "the checksum is wrong");
    let two_files = [&bytes[..], &bytes[..]].concat();
    damaged(&two_files, bytes.len(), "something follows the end of the recording");
    // What some file systems leave after a power cut.
    let mut zeros = bytes[..frames[2]].to_vec();
    zeros.resize(bytes.len(), 0);
    damaged(&zeros, frames[2], "a length is out of bounds");
}

#[test]
fn headers_that_are_not_ours_are_told_apart() {
    for other in ["hello", "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        assert_eq!(open_error(other.as_bytes()).to_string(), "not a recording of tcptrail");
    }
    let newer = header(|fixed| fixed[8] = 4);
    let text = "written by a newer tcptrail (format 4, this one reads up to 3): update tcptrail";
    assert_eq!(open_error(&newer).to_string(), text);
    // Whatever a newer one has behind the version.
    assert_eq!(open_error(&newer[..10]).to_string(), text);

    let (order, name) = if format::byte_order() == b'L' { (b'B', "big") } else { (b'L', "little") };
    let foreign = header(|fixed| fixed[10] = order);
    let text = format!("recorded on a {name}-endian machine: replay it on one");
    assert_eq!(open_error(&foreign).to_string(), text);
    let unknown = header(|fixed| fixed[10] = b'?');
    assert!(matches!(open_error(&unknown), ReadError::Damaged { at: 0, .. }));

    let wire = WIRE_VERSION + 1;
    let other = header(|fixed| fixed[12..14].copy_from_slice(&wire.to_le_bytes()));
    let text = format!(
        "recorded by tcptrail 0.1.0 (records of version {wire}, this one reads \
         {OLDEST_WIRE_VERSION} to {WIRE_VERSION}): replay it with that"
    );
    assert_eq!(open_error(&other).to_string(), text);
    // Of before, it is read.
    let before = header(|fixed| fixed[12..14].copy_from_slice(&OLDEST_WIRE_VERSION.to_le_bytes()));
    assert!(Reader::open(&before[..]).is_ok());
}

/// Their blocks do not say how they are packed.
#[test]
fn files_of_older_formats_are_read() {
    for format in 1..FORMAT_VERSION {
        let mut bytes = header(|fixed| fixed[8..10].copy_from_slice(&format.to_le_bytes()));
        let items: Vec<Owned> = (0..50).map(|n| Owned::Record(vec![n; 144])).collect();
        let raw: Vec<u8> =
            (0..50).flat_map(|n| [&[RECORD, 144, 0][..], &[n; 144]].concat()).collect();
        add_packed(&mut bytes, &lz4_flex::block::compress(&raw), raw.len());
        let (read, error) = read(&bytes);
        assert_eq!(read, items, "format {format}");
        assert!(matches!(error, Some(ReadError::Truncated { .. })), "{error:?}");
    }
}

#[test]
fn the_version_of_a_stranger_does_not_reach_the_terminal_raw() {
    let mut writer_origin = origin();
    writer_origin.version = "\x1b[2J".into();
    let mut bytes = Writer::new(Vec::new(), &writer_origin).unwrap().finish(ENDED_ITEM).unwrap();
    bytes.truncate(frames(&bytes)[0]);
    bytes[12] ^= 0x40;
    let crc = format::header_crc(&bytes[..HEADER_CRC], &bytes[HEADER..]);
    bytes[HEADER_CRC..HEADER].copy_from_slice(&crc.to_le_bytes());
    let text = open_error(&bytes).to_string();
    assert!(text.starts_with("recorded by tcptrail of another version ("), "{text:?}");
}

#[test]
fn hostile_lengths_cost_nothing() {
    let long = header(|fixed| fixed[16..20].copy_from_slice(&u32::MAX.to_le_bytes()));
    assert!(matches!(open_error(&long), ReadError::Damaged { at: 0, .. }));

    let check = |frame: &dyn Fn(&mut Vec<u8>), what: &str| {
        let mut bytes = header(|_| ());
        let at = bytes.len();
        frame(&mut bytes);
        let (items, error) = read(&bytes);
        assert_eq!(items, []);
        let error = error.expect("must be found").to_string();
        assert_eq!(error, format!("damaged at byte {at}: {what}"));
    };
    let bounds = "a length is out of bounds";
    check(&|bytes| add_packed(bytes, &[0], MAX_FRAME + 1), bounds);
    check(&|bytes| add_packed(bytes, &[0], u32::MAX as usize), bounds);
    check(&|bytes| add_packed(bytes, &[0], 0), bounds);
    check(&|bytes| add_packed(bytes, &[], 1), bounds);
    check(&|bytes| add_packed(bytes, &[0; 1000], 1), bounds);
    check(&|bytes| bytes.extend([0xff; FRAME]), bounds);
    // Blocks that give less, more, or go back to before the start.
    let lz4 = "it cannot be decompressed";
    check(&|bytes| add_packed(bytes, &packed(&[1; 9]), 10), lz4);
    check(&|bytes| add_packed(bytes, &packed(&[1; 9]), 8), lz4);
    check(&|bytes| add_packed(bytes, &[0, 0x0f, 0xff, 0xff, 0xff], 500), lz4);
    check(&|bytes| add_packed(bytes, &packed_columns(&[0; 9], 10), 500), lz4);
    check(&|bytes| add_packed(bytes, &packed_columns(&[0; 9], u32::MAX as usize), 500), bounds);
    check(&|bytes| add_packed(bytes, &[1, 0, 0, 0], 500), "it is packed in an unknown way");
    check(&|bytes| add_packed(bytes, &[2, 0, 0, 0, 0, 0], 500), "it is packed in an unknown way");

    let short = "an item is cut short";
    check(&|bytes| add_frame(bytes, &[RECORD]), short);
    check(&|bytes| add_frame(bytes, &[RECORD, 0xff, 0xff, 1, 2]), short);
    check(&|bytes| add_frame(bytes, &[HOLDERS, 0xff, 0xff, 0xff, 0xff]), short);
    check(&|bytes| add_frame(bytes, &part(POLL_END, &[0; 16])), short);
    let mut odd = [0; 18];
    odd[16] = 1;
    check(&|bytes| add_frame(bytes, &part(POLL_END, &odd)), short);
    check(&|bytes| add_frame(bytes, &part(POLL_END, &[0; 17])), "the kind of a walk is unknown");
    let kind = "an item is of an unknown kind";
    check(&|bytes| add_frame(bytes, &[0]), kind);
    check(&|bytes| add_frame(bytes, &[10]), kind);
    check(&|bytes| add_frame(bytes, &[RECORD | MORE, 0, 0]), kind);
    check(
        &|bytes| add_frame(bytes, &[part(HOLDERS | MORE, &[1]), vec![POLL_BEGIN]].concat()),
        "an item lacks its last part",
    );
    check(
        &|bytes| add_frame(bytes, &[part(HOLDERS | MORE, &[1]), part(POLL_END, &[1])].concat()),
        "an item lacks its last part",
    );
}

#[test]
fn nothing_follows_the_end() {
    let mut bytes = header(|_| ());
    let at = bytes.len() as u64;
    let mut raw = vec![ENDED];
    raw.extend([0; 24]);
    raw.push(POLL_BEGIN);
    add_frame(&mut bytes, &raw);
    let (items, error) = read(&bytes);
    assert!(matches!(items[..], [Owned::Ended(_)]));
    assert_eq!(error.and_then(|error| error.offset()), Some(at));
}

#[test]
fn an_item_in_parts_has_a_limit() {
    let mut bytes = header(|_| ());
    for _ in 0..4 {
        add_frame(&mut bytes, &part(HOLDERS | MORE, &[0; 1000]));
    }
    let (_, mut reader) = Reader::open(&bytes[..]).unwrap();
    reader.set_max_long(3999);
    let error = reader.next().expect_err("too long").to_string();
    assert!(error.ends_with("an item is too long"), "{error}");

    let mut writer = Writer::new(Vec::new(), &origin()).unwrap();
    let huge = vec![0; MAX_LONG + 1];
    let error = writer.push(&Input::Holders(&huge)).expect_err("too long");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let error = writer.push(&Input::Record(&huge[..1 << 16])).expect_err("too long");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    // Nothing of them was written.
    assert_eq!(read_all(&writer.finish(ENDED_ITEM).unwrap()), [Owned::Ended(ENDED_ITEM)]);
}

/// A disk with room for so many bytes.
#[derive(Debug)]
struct Disk<'a> {
    written: &'a mut Vec<u8>,
    room: usize,
}

impl Write for Disk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.written.len());
        if fits == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.extend(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_cuts_within_one_frame() {
    let items = one_of_each();
    let whole = recording(&items, 1);
    let frames = frames(&whole);
    for room in 0..whole.len() {
        let mut written = Vec::new();
        let disk = Disk { written: &mut written, room };
        let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        match Writer::new(disk, &origin()) {
            Err(error) => assert!(full(&error)),
            Ok(mut writer) => {
                let mut failed = false;
                for item in &items {
                    for result in [writer.push(&item.input()), writer.flush()] {
                        assert!(!failed || result.is_err());
                        failed |= result.is_err_and(|error| full(&error));
                    }
                }
                assert!(full(&writer.finish(ENDED_ITEM).expect_err("no room")));
            }
        }
        assert_eq!(written, whole[..room]);
        let (read, error) = read(&written);
        let frame = frames.iter().filter(|&&end| end <= room).count().saturating_sub(1);
        assert_eq!(read, items[..frame]);
        assert!(matches!(error, Some(ReadError::Truncated { .. })));
    }
}

#[test]
fn a_failing_read_says_where() {
    /// Gives single bytes, and an interruption before each.
    struct Fails<'a>(&'a [u8], bool);
    impl io::Read for Fails<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match io::Read::read(&mut self.0, &mut buffer[..1])? {
                0 => Err(io::Error::other("bad sector")),
                read => Ok(read),
            }
        }
    }
    let bytes = recording(&one_of_each(), 1);
    let end = frames(&bytes)[3];
    let (_, mut reader) = Reader::open(Fails(&bytes[..end], false)).unwrap();
    for _ in 0..3 {
        reader.next().unwrap().expect("an item");
    }
    let error = reader.next().expect_err("fails");
    assert_eq!(error.to_string(), format!("cannot be read at byte {end}: bad sector"));
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

fn input() -> impl Strategy<Value = Owned> {
    let time = || any::<u64>().prop_map(MonoNs);
    let kind = prop_oneof![Just(PollKind::All), Just(PollKind::Minis)];
    let poll = (time(), prop::collection::vec(any::<u32>(), 0..20), kind)
        .prop_map(|(began, netns, kind)| Poll { began, netns, kind });
    let loss = (any::<u64>(), prop::sample::select(&LossCause::ALL[..]), time(), time())
        .prop_map(|(count, cause, from, to)| Loss { count, cause, from, to });
    // Some alike, as those of a socket are.
    let alike = (prop::sample::select(vec![64, 96, 128, 144, 192]), 0..4u8, 0..192usize);
    let alike = alike.prop_map(|(length, id, at)| {
        let mut record = vec![0; length];
        record[8] = id;
        record[at % length] = 9;
        Owned::Record(record)
    });
    prop_oneof![
        1 => bytes(300).prop_map(Owned::Record),
        6 => alike,
        1 => Just(Owned::PollBegin),
        1 => (poll, time()).prop_map(|(poll, now)| Owned::PollEnd(poll, now)),
        1 => bytes(300).prop_map(Owned::Holders),
        // Over frames; a few random bytes again and again, or making them would take long.
        1 => (bytes(50), 0..12_000usize).prop_map(|(rows, times)| Owned::Holders(rows.repeat(times))),
        1 => loss.prop_map(Owned::Lost),
        1 => time().prop_map(Owned::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_inputs_come_back(
        mut items in prop::collection::vec(input(), 0..40),
        per_frame in 1..50usize,
    ) {
        let bytes = recording(&items, per_frame);
        items.push(Owned::Ended(ENDED_ITEM));
        prop_assert_eq!(read_all(&bytes), items);
    }

    /// Items with right crcs that no writer made.
    #[test]
    fn any_frames_are_survived(
        raws in prop::collection::vec(prop::collection::vec(
            prop_oneof![0..9u8, Just(MORE | HOLDERS), Just(MORE | POLL_END), any::<u8>()], 1..200,
        ), 1..5),
    ) {
        let mut bytes = header(|_| ());
        for raw in raws {
            add_frame(&mut bytes, &raw);
        }
        read(&bytes);
    }

    #[test]
    fn any_blocks_are_survived(packed in bytes(300), raw_length in 0..2000usize) {
        let mut bytes = header(|_| ());
        add_packed(&mut bytes, &packed, raw_length);
        prop_assert!(read(&bytes).1.is_some());
    }

    #[test]
    fn any_bytes_are_survived(tail in bytes(300), whole in any::<bool>()) {
        let mut bytes = if whole { header(|_| ()) } else { Vec::new() };
        bytes.extend(tail);
        prop_assert!(read(&bytes).1.is_some());
    }
}

/// The items of a recording, as text.
fn texts(mut inputs: super::inputs::Inputs) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(item) = inputs.next().unwrap() {
        texts.push(format!("{item:?}"));
    }
    texts
}

/// Segments of a recording, in a directory that a flight recorder has written.
fn segments(dir: &Path) -> Vec<u8> {
    use crate::engine::Engine;
    use crate::output::recorder::{FlightRecorder, Options};
    use crate::output::session::Session;
    let fixture = "/../tests/fixtures/recordings/loopback.tcpt";
    let recording = std::fs::read(format!("{}{fixture}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (origin, mut reader) = Reader::open(recording.as_slice()).unwrap();
    let options = Options {
        path: dir.to_owned(),
        // A segment a second, and none too old.
        keep: Duration::from_secs(48),
        keep_size: 1 << 30,
        pin: Duration::from_secs(1 << 32),
        filter: Filter::default(),
        filter_args: Vec::new(),
        thresholds: Vec::new(),
    };
    let recorder = FlightRecorder::new(options, Default::default()).unwrap();
    let engine = Engine::new(origin, 100_000);
    let mut session = Session::begin(engine, vec![Box::new(recorder)]).unwrap();
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Input(input) => session.feed(&input),
            Item::Ended(ended) => session.end(ended.at),
        }
    }
    recording
}

fn config(words: &[&str]) -> crate::config::Config {
    use clap::Parser;
    let cli = crate::cli::Cli::try_parse_from(["tcptrail"].iter().chain(words)).unwrap();
    crate::config::resolve(cli.command, &cli.common).unwrap()
}

#[test]
fn segments_read_one_after_the_other_give_every_input_once() {
    let dir = tempfile::tempdir().unwrap();
    let recording = segments(dir.path());
    let path = dir.path().to_str().unwrap();
    let config = config(&["replay", path]);
    let count = std::fs::read_dir(path).unwrap().count();
    assert!(count > 3, "{count} files");
    let tape = super::tape::Tape::open(&config, dir.path()).unwrap();
    let (_, inputs, _) = tape.inputs(&config).unwrap();
    let mut read = texts(inputs);
    let (_, inputs) =
        super::inputs::Inputs::open(Box::new(io::Cursor::new(recording)), Default::default(), None)
            .unwrap();
    let mut whole = texts(inputs);
    // Each has an end of its own, and the session's last tick.
    let ends = |text: &String| !text.starts_with("Ended");
    read.retain(ends);
    whole.retain(ends);
    read.pop();
    assert_eq!(read, whole);
}

#[test]
fn a_part_ends_where_it_is_to() {
    let dir = tempfile::tempdir().unwrap();
    segments(dir.path());
    let path = dir.path().to_str().unwrap();
    let whole = config(&["replay", path]);
    let tape = super::tape::Tape::open(&whole, dir.path()).unwrap();
    let all = texts(tape.inputs(&whole).unwrap().1);
    let part = config(&["replay", path, "--from", "-2s", "--to", "-1s"]);
    let tape = super::tape::Tape::open(&part, dir.path()).unwrap();
    let (_, inputs, _) = tape.inputs(&part).unwrap();
    let (last, wrong) = super::tape::length(inputs, MonoNs(0));
    assert!(wrong.is_none());
    assert_eq!(last.since(tape.from.unwrap()), 1_000_000_000);
    let (_, inputs, _) = tape.inputs(&part).unwrap();
    let some = texts(inputs);
    assert!(some.len() > 3 && some.len() < all.len(), "{} of {}", some.len(), all.len());
    // Nothing lies there.
    let none = config(&["replay", path, "--from", "2001-01-01T00:00:00Z", "--to", "2001-01-02"]);
    let error = super::tape::Tape::open(&none, dir.path()).map(drop).unwrap_err();
    assert!(format!("{error:#}").contains("the recording has"), "{error:#}");
    let unknown = config(&["replay", path, "--around", "TT101"]);
    let error = super::tape::Tape::open(&unknown, dir.path()).map(drop).unwrap_err();
    assert!(format!("{error:#}").contains("no finding TT101"), "{error:#}");
}
