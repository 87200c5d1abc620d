//! A reader for BTF, the type information a kernel carries about itself.
//!
//! It answers one question: where in which struct does a field stand? The bytes may be anything:
//! every access is checked, the index takes no more than twice the memory of the input, and a
//! lookup gives up after a bounded number of steps. Only the byte order of this machine is read,
//! and pointers are taken to be 64 bits wide (BTF does not record it).

use std::fmt;
use std::ops::Range;

use thiserror::Error;

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// Length of the first header version; later ones only append to it.
const HEADER_LEN: usize = 24;
/// `struct btf_type`, which starts every type.
const TYPE_LEN: usize = 12;
/// `struct btf_member`.
const MEMBER_LEN: usize = 12;
/// `KSYM_NAME_LEN`: the kernel takes no longer names. Bounds the work for each.
const NAME_MAX: usize = 512;
/// Typedefs and qualifiers followed in a row. Real chains have a handful.
const CHAIN_MAX: usize = 32;
/// Nesting of anonymous structs, and of arrays. Real ones have a handful.
const DEPTH_MAX: usize = 16;
/// Members looked at in one lookup. Real structs have a few hundred.
const MEMBERS_MAX: u32 = 1 << 16;
/// Size of a pointer.
const POINTER: u32 = 8;

/// Why BTF could not be read, or what it does not hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The first bytes are not those of BTF.
    #[error("not BTF: it does not begin with the magic number")]
    Magic,
    /// Written on a machine of the other byte order.
    #[error("BTF of a machine with another byte order")]
    ForeignEndian,
    /// A version this reader does not know.
    #[error("BTF version {0}, but only version 1 is known")]
    Version(u8),
    /// The header is cut short, or a section it names is not within the data.
    #[error("BTF is damaged: the {0} is not within the data")]
    Section(&'static str),
    /// A type runs over the end of its section.
    #[error("BTF is damaged: type {0} is cut short")]
    Truncated(u32),
    /// A kind of type that came after this reader, in BTF that does not say how long it is.
    #[error("BTF type {id} has the unknown kind {kind}")]
    UnknownKind {
        /// The type.
        id: u32,
        /// Its kind.
        kind: u8,
    },
    /// There is no struct or union of that name.
    #[error("the kernel has no struct {0}")]
    NoSuchStruct(String),
    /// The struct has no such member.
    #[error("the kernel's struct {root} has no field {path}")]
    NoSuchField {
        /// The struct the path starts from.
        root: String,
        /// The path up to the member that is missing.
        path: String,
    },
    /// The member is a bit field or does not start at a byte.
    #[error("field {path} of the kernel's struct {root} is a bit field")]
    Bitfield {
        /// The struct the path starts from.
        root: String,
        /// The path up to the bit field.
        path: String,
    },
    /// A type on the way refers to nothing, to itself, or has no size.
    #[error("BTF is damaged around field {path} of struct {root}")]
    Malformed {
        /// The struct the path starts from.
        root: String,
        /// The path up to the bad type.
        path: String,
    },
}

/// `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer.
    Int,
    /// A pointer.
    Ptr,
    /// An array.
    Array,
    /// A struct.
    Struct,
    /// A union.
    Union,
    /// An enumeration of 32 bits or less.
    Enum,
    /// A struct or union that is only declared.
    Fwd,
    /// A typedef.
    Typedef,
    /// `volatile`.
    Volatile,
    /// `const`.
    Const,
    /// `restrict`.
    Restrict,
    /// A function.
    Func,
    /// A function's signature.
    FuncProto,
    /// A variable.
    Var,
    /// A section of variables.
    Datasec,
    /// A floating-point number.
    Float,
    /// An attribute of a declaration.
    DeclTag,
    /// An attribute of a type; stands in the chain as `const` does.
    TypeTag,
    /// An enumeration of 64 bits.
    Enum64,
    /// A later kind.
    Unknown(u8),
}

impl Kind {
    fn new(number: u8) -> Kind {
        match number {
            1 => Kind::Int,
            2 => Kind::Ptr,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            7 => Kind::Fwd,
            8 => Kind::Typedef,
            9 => Kind::Volatile,
            10 => Kind::Const,
            11 => Kind::Restrict,
            12 => Kind::Func,
            13 => Kind::FuncProto,
            14 => Kind::Var,
            15 => Kind::Datasec,
            16 => Kind::Float,
            17 => Kind::DeclTag,
            18 => Kind::TypeTag,
            19 => Kind::Enum64,
            other => Kind::Unknown(other),
        }
    }

    /// Bytes after `struct btf_type`: a fixed part, and one for each of `vlen` elements.
    fn extra(self) -> Option<(u8, u8)> {
        Some(match self {
            Kind::Int | Kind::Var | Kind::DeclTag => (4, 0),
            Kind::Array => (12, 0),
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => (0, 12),
            Kind::Enum | Kind::FuncProto => (0, 8),
            Kind::Ptr
            | Kind::Fwd
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Func
            | Kind::Float
            | Kind::TypeTag => (0, 0),
            Kind::Unknown(_) => return None,
        })
    }

    fn is_aggregate(self) -> bool {
        matches!(self, Kind::Struct | Kind::Union)
    }
}

/// One type as it stands in the data.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    /// Offset of its name in the string section, see [`Btf::name`].
    pub name_off: u32,
    /// Kind, `kind_flag` and number of elements, packed.
    pub info: u32,
    /// A size for some kinds, the id of another type for the others.
    pub size_or_type: u32,
    /// What follows `struct btf_type`.
    pub extra: &'a [u8],
}

impl Type<'_> {
    /// What it is.
    pub fn kind(&self) -> Kind {
        Kind::new(kind_bits(self.info))
    }

    /// Number of members, parameters, enumerators.
    pub fn len(&self) -> u32 {
        vlen_bits(self.info)
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of a struct or union: members carry a bit-field size in the top byte of their offset.
    fn sized_bitfields(&self) -> bool {
        self.info >> 31 != 0
    }
}

// Five bits of kind and sixteen of vlen are in use, the bits above them reserved and zero. Taking
// those in turns a use of them that came after this reader into an error, not a wrong answer.
fn kind_bits(info: u32) -> u8 {
    (info >> 24) as u8 & 0x7f
}

fn vlen_bits(info: u32) -> u32 {
    info & 0x00ff_ffff
}

/// What kind of value a field holds, as far as reading it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A pointer.
    Pointer,
    /// An array of pointers.
    PointerArray,
    /// Anything else.
    Other,
}

/// Where a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the struct that was asked.
    pub offset: u32,
    /// Bytes it takes; 0 for an array at the end of a struct that has no length.
    pub size: u32,
    /// What it holds.
    pub shape: Shape,
    /// Its type, typedefs and qualifiers taken off.
    pub type_id: u32,
}

/// BTF with an index.
pub struct Btf {
    data: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Offset in the type section of each type; type 1 comes first.
    offsets: Vec<u32>,
    /// Hashes of the names of structs, unions, typedefs, functions and enums with their ids, sorted.
    names: Vec<(u32, u32)>,
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("bytes", &self.data.len())
            .field("types", &self.offsets.len())
            .finish()
    }
}

impl Btf {
    /// Checks the header and indexes the types.
    pub fn parse(data: Vec<u8>) -> Result<Btf, BtfError> {
        let magic = data.first_chunk::<2>().copied().ok_or(BtfError::Magic)?;
        match u16::from_ne_bytes(magic) {
            MAGIC => {}
            other if other.swap_bytes() == MAGIC => return Err(BtfError::ForeignEndian),
            _ => return Err(BtfError::Magic),
        }
        let header = data.get(..HEADER_LEN).ok_or(BtfError::Section("header"))?;
        if header[2] != 1 {
            return Err(BtfError::Version(header[2]));
        }
        let header_len = usize_at(&data, 4).unwrap_or(0);
        if header_len < HEADER_LEN || header_len > data.len() {
            return Err(BtfError::Section("header"));
        }
        let section = |at: usize, name: &'static str| {
            let start = usize_at(&data, at).and_then(|off| off.checked_add(header_len));
            let len = usize_at(&data, at + 4);
            start
                .zip(len)
                .and_then(|(start, len)| Some(start..start.checked_add(len)?))
                .filter(|range| data.get(range.clone()).is_some())
                .ok_or(BtfError::Section(name))
        };
        let types = section(8, "type section")?;
        let strings = section(16, "string section")?;
        // A longer header names a table of the lengths of all kinds, for readers older than they.
        let layout = match header_len {
            0..32 => 0..0,
            _ => section(24, "layout section")?,
        };

        let mut btf = Btf { data, types, strings, offsets: Vec::new(), names: Vec::new() };
        btf.index(layout)?;
        Ok(btf)
    }

    fn index(&mut self, layout: Range<usize>) -> Result<(), BtfError> {
        let types = &self.data[self.types.clone()];
        let layout = &self.data[layout];
        let mut offsets = Vec::new();
        let mut names = Vec::new();
        let mut at = 0;
        while at < types.len() {
            let id = offsets.len() as u32 + 1;
            let (Some(name_off), Some(info)) = (u32_at(types, at), u32_at(types, at + 4)) else {
                return Err(BtfError::Truncated(id));
            };
            let number = kind_bits(info);
            let kind = Kind::new(number);
            let (fixed, each) = kind
                .extra()
                .or_else(|| {
                    let row = layout.chunks_exact(4).nth(number.into())?;
                    Some((row[0], row[1]))
                })
                .ok_or(BtfError::UnknownKind { id, kind: number })?;
            // At most 12 + 255 + 255 * 2^24: far from overflow.
            let end = at + TYPE_LEN + fixed as usize + each as usize * vlen_bits(info) as usize;
            if end > types.len() {
                return Err(BtfError::Truncated(id));
            }
            offsets.push(at as u32);
            if matches!(kind, Kind::Struct | Kind::Union | Kind::Typedef | Kind::Func | Kind::Enum)
            {
                let name = self.name(name_off);
                if !name.is_empty() {
                    names.push((hash(name), id));
                }
            }
            at = end;
        }
        names.sort_unstable();
        self.offsets = offsets;
        self.names = names;
        Ok(())
    }

    /// Greatest type id; ids count from 1, and 0 is `void`.
    pub fn last_id(&self) -> u32 {
        self.offsets.len() as u32
    }

    /// The type with that id, `None` for `void` and for ids out of range.
    pub fn type_by_id(&self, id: u32) -> Option<Type<'_>> {
        let index = (id as usize).checked_sub(1)?;
        let start = *self.offsets.get(index)? as usize;
        let types = self.data.get(self.types.clone())?;
        let end = self.offsets.get(index + 1).map_or(types.len(), |&next| next as usize);
        let bytes = types.get(start..end)?;
        Some(Type {
            name_off: u32_at(bytes, 0)?,
            info: u32_at(bytes, 4)?,
            size_or_type: u32_at(bytes, 8)?,
            extra: bytes.get(TYPE_LEN..)?,
        })
    }

    /// A name from the string section. Empty for an anonymous type, and for an offset that is out
    /// of bounds or leads to no end within the length the kernel allows.
    pub fn name(&self, offset: u32) -> &[u8] {
        let strings = self.data.get(self.strings.clone()).unwrap_or_default();
        let rest = strings.get(offset as usize..).unwrap_or_default();
        let rest = &rest[..rest.len().min(NAME_MAX)];
        rest.iter().position(|&byte| byte == 0).map_or(&[], |end| &rest[..end])
    }

    /// Whether there is a function of that name. Static and inlined ones may be missing.
    pub fn has_func(&self, name: &str) -> bool {
        self.find(name, |kind| kind == Kind::Func).is_some()
    }

    /// Whether there is a typedef of that name.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.find(name, |kind| kind == Kind::Typedef).is_some()
    }

    /// The struct or union of that name; the first where a kernel has several.
    pub fn struct_id(&self, name: &str) -> Option<u32> {
        self.find(name, Kind::is_aggregate)
    }

    /// The typedef of that name; the first where a kernel has several.
    pub fn typedef_id(&self, name: &str) -> Option<u32> {
        self.find(name, |kind| kind == Kind::Typedef)
    }

    /// The function of that name; the first where a kernel has several.
    pub fn func_id(&self, name: &str) -> Option<u32> {
        self.find(name, |kind| kind == Kind::Func)
    }

    /// Number of parameters of a typedef that is a pointer to a function, as the `btf_trace_*` of
    /// tracepoints are; those count a leading `void *` that programs never see.
    pub fn func_args(&self, typedef: &str) -> Option<usize> {
        let (_, pointer) = self.strip(self.typedef_id(typedef)?)?;
        if pointer.kind() != Kind::Ptr {
            return None;
        }
        let (_, proto) = self.strip(pointer.size_or_type)?;
        (proto.kind() == Kind::FuncProto).then(|| proto.len() as usize)
    }

    /// Number of parameters of a function.
    pub fn params(&self, func: &str) -> Option<usize> {
        let func = self.type_by_id(self.func_id(func)?)?;
        let proto = self.type_by_id(func.size_or_type)?;
        (proto.kind() == Kind::FuncProto).then(|| proto.len() as usize)
    }

    /// The enumerators of an enum of 32 bits, in their order; empty when there is none of that
    /// name.
    pub fn enumerators(&self, name: &str) -> Vec<(String, u32)> {
        let found = self.find(name, |kind| kind == Kind::Enum).and_then(|id| self.type_by_id(id));
        let Some(ty) = found else { return Vec::new() };
        ty.extra
            .chunks_exact(8)
            .filter_map(|entry| {
                let name = String::from_utf8_lossy(self.name(u32_at(entry, 0)?)).into_owned();
                Some((name, u32_at(entry, 4)?))
            })
            .collect()
    }

    /// Where the field at the end of a dotted path stands, from the start of struct `root`. The
    /// members of anonymous structs and unions count as their parent's, as in C.
    pub fn field(&self, root: &str, path: &str) -> Result<Field, BtfError> {
        let root_id = self.struct_id(root).ok_or_else(|| BtfError::NoSuchStruct(root.into()))?;
        let mut id = root_id;
        let mut bits = 0_u64;
        let mut budget = MEMBERS_MAX;
        let mut done = 0;
        for name in path.split('.') {
            done += name.len();
            let so_far = &path[..done];
            let (root, path) = (|| root.to_owned(), || so_far.to_owned());
            let owner = self
                .strip(id)
                .map(|(_, owner)| owner)
                .ok_or_else(|| BtfError::Malformed { root: root(), path: path() })?;
            if !owner.kind().is_aggregate() {
                return Err(BtfError::NoSuchField { root: root(), path: path() });
            }
            let member = match self.member(&owner, name.as_bytes(), DEPTH_MAX, &mut budget) {
                Some(member) => member,
                None if budget == 0 => {
                    return Err(BtfError::Malformed { root: root(), path: path() });
                }
                None => {
                    return Err(BtfError::NoSuchField { root: root(), path: path() });
                }
            };
            if member.bitfield || !member.bits.is_multiple_of(8) {
                return Err(BtfError::Bitfield { root: root(), path: path() });
            }
            bits += member.bits;
            id = member.type_id;
            done += 1;
        }
        self.finish(root_id, id, bits)
            .ok_or_else(|| BtfError::Malformed { root: root.into(), path: path.into() })
    }

    fn finish(&self, root_id: u32, id: u32, bits: u64) -> Option<Field> {
        let (type_id, field) = self.strip(id)?;
        let size = self.size(type_id, DEPTH_MAX)?;
        let offset = u32::try_from(bits / 8).ok()?;
        let within = offset.checked_add(size)? <= self.type_by_id(root_id)?.size_or_type;
        let shape = match field.kind() {
            Kind::Ptr => Shape::Pointer,
            Kind::Array => match self.strip(u32_at(field.extra, 0)?) {
                Some((_, element)) if element.kind() == Kind::Ptr => Shape::PointerArray,
                _ => Shape::Other,
            },
            _ => Shape::Other,
        };
        within.then_some(Field { offset, size, shape, type_id })
    }

    fn find(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Option<u32> {
        let key = hash(name.as_bytes());
        let start = self.names.partition_point(|&(hash, _)| hash < key);
        self.names[start..].iter().take_while(|&&(hash, _)| hash == key).map(|&(_, id)| id).find(
            |&id| {
                self.type_by_id(id).is_some_and(|ty| {
                    wanted(ty.kind()) && self.name(ty.name_off) == name.as_bytes()
                })
            },
        )
    }

    /// Takes typedefs and qualifiers off. `None` for `void` and where the chain leads nowhere.
    fn strip(&self, mut id: u32) -> Option<(u32, Type<'_>)> {
        for _ in 0..CHAIN_MAX {
            let ty = self.type_by_id(id)?;
            match ty.kind() {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    id = ty.size_or_type;
                }
                _ => return Some((id, ty)),
            }
        }
        None
    }

    fn size(&self, id: u32, depth: usize) -> Option<u32> {
        let (_, ty) = self.strip(id)?;
        match ty.kind() {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float => {
                Some(ty.size_or_type)
            }
            Kind::Ptr => Some(POINTER),
            Kind::Array => {
                let element = self.size(u32_at(ty.extra, 0)?, depth.checked_sub(1)?)?;
                element.checked_mul(u32_at(ty.extra, 8)?)
            }
            _ => None,
        }
    }

    /// Finds a member, in anonymous members too. `budget` reaches 0 where there are too many.
    fn member(
        &self,
        owner: &Type<'_>,
        wanted: &[u8],
        depth: usize,
        budget: &mut u32,
    ) -> Option<Member> {
        let deeper = depth.checked_sub(1)?;
        for entry in owner.extra.chunks_exact(MEMBER_LEN) {
            *budget = budget.checked_sub(1)?;
            let (name_off, type_id) = (u32_at(entry, 0)?, u32_at(entry, 4)?);
            let (bits, width) = match (u32_at(entry, 8)?, owner.sized_bitfields()) {
                (packed, true) => (packed & 0x00ff_ffff, packed >> 24),
                (bits, false) => (bits, 0),
            };
            let name = self.name(name_off);
            if name.is_empty() {
                let Some((_, inner)) = self.strip(type_id) else {
                    continue;
                };
                if inner.kind().is_aggregate()
                    && let Some(found) = self.member(&inner, wanted, deeper, budget)
                {
                    return Some(Member { bits: found.bits + u64::from(bits), ..found });
                }
            } else if name == wanted {
                let bitfield = width != 0 || self.is_bit_int(type_id);
                return Some(Member { bits: bits.into(), type_id, bitfield });
            }
        }
        None
    }

    /// An integer narrower than its storage: how bit fields were written before `kind_flag`.
    fn is_bit_int(&self, id: u32) -> bool {
        self.strip(id).is_some_and(|(_, ty)| {
            let encoding = u32_at(ty.extra, 0).unwrap_or(0);
            let (offset, bits) = (encoding >> 16 & 0xff, encoding & 0xff);
            ty.kind() == Kind::Int
                && (offset != 0 || u64::from(bits) != u64::from(ty.size_or_type) * 8)
        })
    }
}

/// A member as found: bits from the start of the struct searched.
struct Member {
    bits: u64,
    type_id: u32,
    bitfield: bool,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

/// FNV-1a: names are short, and a collision costs one comparison.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        fn aggregate(
            &mut self,
            name: &str,
            info: u32,
            size: u32,
            members: &[(&str, u32, u32)],
        ) -> u32 {
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
}
