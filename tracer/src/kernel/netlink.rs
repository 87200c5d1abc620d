//! What messages of netlink have in common, as far as tcptrail speaks it.

use rustix::io::{self, Errno};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLM_F_REQUEST: u16 = 1;
/// Messages and attributes are aligned to this.
const ALIGN: usize = 4;
/// What is in an attribute are attributes (NLA_F_NESTED).
pub(super) const NESTED: u16 = 1 << 15;
/// Bits of an attribute's type that say what it is (NLA_TYPE_MASK).
const TYPE: u16 = 0x3fff;

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
}

const _: () = assert!(size_of::<Header>() == 16);

/// The messages in what was received.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = Header::read_from_prefix(bytes).ok()?;
        let length = usize::try_from(header.length).ok()?;
        let payload = bytes.get(size_of::<Header>()..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// What NLMSG_ERROR says: 0, or an errno below it.
pub(super) fn error(payload: &[u8]) -> io::Result<()> {
    let Some(bytes) = payload.first_chunk() else { return Err(Errno::BADMSG) };
    match i32::from_ne_bytes(*bytes) {
        0 => Ok(()),
        // MAX_ERRNO.
        number @ -4095..=-1 => Err(Errno::from_raw_os_error(-number)),
        _ => Err(Errno::BADMSG),
    }
}

/// Appends an attribute (`struct nlattr`) with what `write` writes.
pub(super) fn attribute(kind: u16, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&kind.to_ne_bytes());
    write(out);
    let length = u16::try_from(out.len() - at).unwrap_or(u16::MAX);
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&length.to_ne_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// The attributes in a payload: what each is, and its own.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let payload = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & TYPE, payload))
    })
}

/// The payload of the first attribute of a kind.
pub(super) fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, payload)| (kind == wanted).then_some(payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_cut_off_or_absurd_ends_the_messages() {
        let header = |length| Header { length, kind: 20, flags: 0, sequence: 7, port: 0 };
        let mut bytes = [header(20).as_bytes(), &[1, 2, 3, 4]].concat();
        bytes.extend(header(17).as_bytes());
        bytes.extend([9, 0, 0, 0]);
        let lengths: Vec<usize> = messages(&bytes).map(|(_, payload)| payload.len()).collect();
        assert_eq!(lengths, [4, 1]);
        for length in [0, 1, 15, 21, u32::MAX] {
            assert_eq!(messages(header(length).as_bytes()).count(), 0, "{length}");
        }
        assert_eq!(messages(&[0; 5]).count(), 0);
        assert_eq!(error(&[0; 4]), Ok(()));
        assert_eq!(error(&(-1_i32).to_ne_bytes()), Err(Errno::PERM));
        assert_eq!(error(&i32::MIN.to_ne_bytes()), Err(Errno::BADMSG));
        assert_eq!(error(&[]), Err(Errno::BADMSG));
    }

    #[test]
    fn attributes_come_back() {
        let mut bytes = Vec::new();
        attribute(1 | NESTED, &mut bytes, |out| {
            attribute(7, out, |out| out.push(9));
            attribute(8, out, |out| out.extend([1, 2, 3, 4]));
        });
        attribute(2, &mut bytes, |_| {});
        let found: Vec<(u16, &[u8])> = attributes(&bytes).collect();
        let inner = [5, 0, 7, 0, 9, 0, 0, 0, 8, 0, 8, 0, 1, 2, 3, 4];
        if cfg!(target_endian = "little") {
            assert_eq!(found, [(1, &inner[..]), (2, &[][..])]);
        }
        let nested = find(&bytes, 1).expect("it is there");
        assert_eq!(find(nested, 8), Some(&[1, 2, 3, 4][..]));
        assert_eq!(find(nested, 9), None);
        // Cut off, too short for itself, and nothing.
        assert_eq!(attributes(&[8, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[0; 16]).count(), 0);
        assert_eq!(attributes(&[4, 0, 1]).count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = attributes(&bytes).map(|(_, payload)| payload.len()).sum::<usize>();
            let _ = messages(&bytes).count();
        }
    }
}
