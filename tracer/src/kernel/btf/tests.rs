//! BTF written by hand, damaged, and random.

use proptest::prelude::*;

use super::field::MEMBER_LEN;
use super::index::MAGIC;
use super::types::{Kind, u32_at};
use super::*;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const KIND_FLAG: u32 = 1 << 31;

/// Writes BTF by hand.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    layout: Vec<u8>,
    last: u32,
}

impl Builder {
    fn new() -> Builder {
        Builder { strings: vec![0], ..Builder::default() }
    }

    fn string(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// A type with `vlen` elements whose trailing words are `extra`; returns its id.
    fn add(&mut self, name: &str, info: u32, size_or_type: u32, extra: &[u32]) -> u32 {
        let name = self.string(name);
        self.words(&[name, info, size_or_type]);
        self.words(extra);
        self.last += 1;
        self.last
    }

    fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, INT << 24, bytes, &[bytes * 8])
    }

    /// A struct or union; a member is its name, its type and its offset word.
    fn aggregate(&mut self, name: &str, info: u32, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let extra: Vec<u32> = members
            .iter()
            .flat_map(|&(name, ty, offset)| [self.string(name), ty, offset])
            .collect();
        self.add(name, info | members.len() as u32, size, &extra)
    }

    fn build(&self) -> Vec<u8> {
        let header_len = if self.layout.is_empty() { 24 } else { 32 };
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut out = MAGIC.to_ne_bytes().to_vec();
        out.extend([1, 0]);
        let mut header = vec![header_len, 0, types, types, strings];
        if header_len == 32 {
            header.extend([types + strings, self.layout.len() as u32]);
        }
        out.extend(header.iter().flat_map(|word| word.to_ne_bytes()));
        out.extend(&self.types);
        out.extend(&self.strings);
        out.extend(&self.layout);
        out
    }

    fn btf(&self) -> Btf {
        Btf::parse(self.build()).unwrap()
    }
}

/// Checks where a field stands, or the sentence that says why it cannot be had.
#[track_caller]
fn check(btf: &Btf, root: &str, path: &str, expected: Result<(u32, u32, Shape), &str>) {
    let found = btf
        .field(root, path)
        .map(|field| (field.offset, field.size, field.shape))
        .map_err(|error| error.to_string());
    assert_eq!(found, expected.map_err(str::to_owned), "{root}.{path}");
}

#[test]
fn paths_lead_through_typedefs_and_anonymous_members() {
    let mut b = Builder::new();
    let u16_ = b.int("short unsigned int", 2);
    let u64_ = b.int("long unsigned int", 8);
    let port = b.add("__be16", TYPEDEF << 24, u16_, &[]);
    let volatile = b.add("", VOLATILE << 24, port, &[]);
    let pair = b.aggregate("", STRUCT << 24, 4, &[("dport", volatile, 0), ("num", port, 16)]);
    let both = b.aggregate("", UNION << 24, 8, &[("portpair", u64_, 0), ("", pair, 0)]);
    let void_ptr = b.add("", PTR << 24, 0, &[]);
    let net = b.aggregate("", STRUCT << 24, 8, &[("net", void_ptr, 0)]);
    let net = b.add("possible_net_t", TYPEDEF << 24, net, &[]);
    let ids = b.add("", ARRAY << 24, 0, &[u16_, u16_, 3]);
    let tail = b.add("", ARRAY << 24, 0, &[void_ptr, u16_, 0]);
    b.aggregate(
        "sock",
        STRUCT << 24,
        32,
        &[("", both, 64), ("net", net, 128), ("ids", ids, 192), ("tail", tail, 256)],
    );
    let btf = b.btf();
    check(&btf, "sock", "dport", Ok((8, 2, Shape::Other)));
    check(&btf, "sock", "num", Ok((10, 2, Shape::Other)));
    check(&btf, "sock", "portpair", Ok((8, 8, Shape::Other)));
    check(&btf, "sock", "net", Ok((16, 8, Shape::Other)));
    check(&btf, "sock", "net.net", Ok((16, 8, Shape::Pointer)));
    check(&btf, "sock", "ids", Ok((24, 6, Shape::Other)));
    check(&btf, "sock", "tail", Ok((32, 0, Shape::PointerArray)));
    check(&btf, "sack", "num", Err("the kernel has no struct sack"));
    check(&btf, "sock", "nim", Err("the kernel's struct sock has no field nim"));
    check(&btf, "sock", "", Err("the kernel's struct sock has no field "));
    check(&btf, "sock", "net.nit.x", Err("the kernel's struct sock has no field net.nit"));
    // Neither through a pointer nor into an integer.
    check(&btf, "sock", "net.net.x", Err("the kernel's struct sock has no field net.net.x"));
    check(&btf, "sock", "num.x", Err("the kernel's struct sock has no field num.x"));
}

#[test]
fn bit_fields_of_both_encodings_are_told_apart() {
    let mut b = Builder::new();
    let int = b.int("unsigned int", 4);
    let old = b.add("unsigned int", INT << 24, 4, &[8]);
    b.aggregate(
        "new",
        STRUCT << 24 | KIND_FLAG,
        8,
        &[("bits", int, 8 << 24 | 8), ("plain", int, 32)],
    );
    b.aggregate("old", STRUCT << 24, 8, &[("bits", old, 8), ("odd", int, 33)]);
    let btf = b.btf();
    check(&btf, "new", "plain", Ok((4, 4, Shape::Other)));
    check(&btf, "new", "bits", Err("field bits of the kernel's struct new is a bit field"));
    check(&btf, "old", "bits", Err("field bits of the kernel's struct old is a bit field"));
    check(&btf, "old", "odd", Err("field odd of the kernel's struct old is a bit field"));
}

#[test]
fn every_kind_has_its_length() {
    // (kind, vlen, words that follow); a struct after each shows that the reader kept step.
    let kinds: [(u32, u32, usize); 19] = [
        (1, 0, 1),
        (2, 0, 0),
        (3, 0, 3),
        (4, 2, 6),
        (5, 2, 6),
        (6, 2, 4),
        (7, 0, 0),
        (8, 0, 0),
        (9, 0, 0),
        (10, 0, 0),
        (11, 0, 0),
        (12, 1, 0),
        (13, 2, 4),
        (14, 0, 1),
        (15, 2, 6),
        (16, 0, 0),
        (17, 0, 1),
        (18, 0, 0),
        (19, 2, 6),
    ];
    let mut b = Builder::new();
    for (kind, vlen, words) in kinds {
        b.add("", kind << 24 | vlen, 0, &vec![0; words]);
        b.aggregate(&format!("after{kind}"), STRUCT << 24, 4, &[]);
    }
    let btf = b.btf();
    assert_eq!(btf.last_id(), 38);
    for (kind, ..) in kinds {
        assert_eq!(btf.struct_id(&format!("after{kind}")), Some(kind * 2));
    }
}

#[test]
fn kinds_of_the_future_are_skipped_where_the_file_tells_their_length() {
    let mut b = Builder::new();
    b.add("", 21 << 24 | 3, 0, &[0; 7]);
    b.aggregate("sock", STRUCT << 24, 4, &[]);
    assert_eq!(Btf::parse(b.build()).unwrap_err(), BtfError::UnknownKind { id: 1, kind: 21 });
    b.layout = vec![0; 22 * 4];
    (b.layout[84], b.layout[85]) = (4, 8);
    assert_eq!(b.btf().struct_id("sock"), Some(2));
}

#[test]
fn functions_and_typedefs_are_found_by_name() {
    let mut b = Builder::new();
    let proto = b.add("", FUNC_PROTO << 24 | 3, 0, &[0; 6]);
    let constant = b.add("", CONST << 24, proto, &[]);
    let pointer = b.add("", PTR << 24, constant, &[]);
    b.add("btf_trace_tcp_send_reset", TYPEDEF << 24, pointer, &[]);
    b.add("not_a_function", TYPEDEF << 24, proto, &[]);
    b.add("tcp_reset", FUNC << 24 | 1, proto, &[]);
    let btf = b.btf();
    assert_eq!(btf.func_args("btf_trace_tcp_send_reset"), Some(3));
    assert_eq!(btf.func_args("not_a_function"), None);
    assert_eq!(btf.func_args("tcp_reset"), None);
    assert_eq!(btf.func_args("nothing"), None);
    assert!(btf.has_func("tcp_reset") && !btf.has_func("btf_trace_tcp_send_reset"));
    assert!(btf.has_typedef("btf_trace_tcp_send_reset") && !btf.has_typedef("tcp_reset"));
}

#[test]
fn damaged_headers_say_what_is_wrong() {
    #[track_caller]
    fn check(change: impl Fn(&mut Vec<u8>), expected: BtfError) {
        let mut b = Builder::new();
        b.int("int", 4);
        let mut bytes = b.build();
        change(&mut bytes);
        assert_eq!(Btf::parse(bytes).unwrap_err(), expected);
    }
    check(Vec::clear, BtfError::Magic);
    check(|b| b[0] = 0, BtfError::Magic);
    check(|b| b.swap(0, 1), BtfError::ForeignEndian);
    check(|b| b[2] = 2, BtfError::Version(2));
    check(|b| b.truncate(23), BtfError::Section("header"));
    check(|b| b[4] = 23, BtfError::Section("header"));
    check(|b| b[4..8].fill(0xff), BtfError::Section("header"));
    check(|b| b[8..12].fill(0xff), BtfError::Section("type section"));
    check(|b| b[12..16].fill(0xff), BtfError::Section("type section"));
    check(|b| b[20..24].fill(0xff), BtfError::Section("string section"));
    check(|b| b[12] -= 1, BtfError::Truncated(1));
}

#[test]
fn loops_end() {
    let mut b = Builder::new();
    // A typedef of itself, an array of itself, and a struct that is four times its own
    // anonymous member: without a budget the last takes 4^16 steps.
    b.add("self", TYPEDEF << 24, 1, &[]);
    b.add("", ARRAY << 24, 0, &[2, 2, 2]);
    b.aggregate("nest", STRUCT << 24, 4, &[("", 3, 0); 4]);
    b.aggregate("sock", STRUCT << 24, 64, &[("chain", 1, 0), ("array", 2, 0), ("void", 0, 0)]);
    let btf = b.btf();
    check(&btf, "sock", "chain", Err("BTF is damaged around field chain of struct sock"));
    check(&btf, "sock", "chain.x", Err("BTF is damaged around field chain.x of struct sock"));
    check(&btf, "sock", "array", Err("BTF is damaged around field array of struct sock"));
    check(&btf, "sock", "void", Err("BTF is damaged around field void of struct sock"));
    check(&btf, "nest", "x", Err("BTF is damaged around field x of struct nest"));
}

#[test]
fn a_field_beyond_its_struct_is_refused() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.aggregate("sock", STRUCT << 24, 6, &[("err", int, 32)]);
    check(&b.btf(), "sock", "err", Err("BTF is damaged around field err of struct sock"));
}

#[test]
fn a_name_without_an_end_is_no_name() {
    let mut b = Builder::new();
    b.aggregate("sock", STRUCT << 24, 4, &[]);
    let mut bytes = b.build();
    *bytes.last_mut().unwrap() = b'x';
    assert_eq!(Btf::parse(bytes).unwrap().struct_id("sock"), None);
}

fn poke(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for id in 0..=btf.last_id().min(1000) + 1 {
        let Some(ty) = btf.type_by_id(id) else {
            continue;
        };
        let root = String::from_utf8_lossy(btf.name(ty.name_off)).into_owned();
        let _ = btf.func_args(&root);
        for entry in ty.extra.chunks_exact(MEMBER_LEN).take(50) {
            let member = btf.name(u32_at(entry, 0).unwrap());
            let _ = btf.field(&root, &String::from_utf8_lossy(member));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        poke(bytes);
    }

    #[test]
    fn random_types_never_panic(
        words in prop::collection::vec(prop_oneof![0..64_u32, any::<u32>()], 0..600),
        infos in prop::collection::vec((1..20_u32, 0..6_u32, any::<bool>()), 0..40),
    ) {
        let mut b = Builder::new();
        b.strings = b"\0a\0bc\0sock\0".repeat(8);
        let mut words = words.into_iter().cycle();
        let mut next = || words.next().unwrap_or(0);
        for (kind, vlen, flag) in infos {
            let (fixed, each) = Kind::new(kind as u8).extra().unwrap();
            let count = (u32::from(fixed) + u32::from(each) * vlen) / 4;
            let info = kind << 24 | vlen | u32::from(flag) << 31;
            let all: Vec<u32> = [next(), info, next()].into_iter()
                .chain((0..count).map(|_| next())).collect();
            b.words(&all);
        }
        poke(b.build());
    }
}
