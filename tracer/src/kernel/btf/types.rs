//! Types as they stand in the data.

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
    pub(super) fn new(number: u8) -> Kind {
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
    pub(super) fn extra(self) -> Option<(u8, u8)> {
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

    pub(super) fn is_aggregate(self) -> bool {
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
    pub(super) fn sized_bitfields(&self) -> bool {
        self.info >> 31 != 0
    }
}

// Five bits of kind and sixteen of vlen are in use, the bits above them reserved and zero. Taking
// those in turns a use of them that came after this reader into an error, not a wrong answer.
pub(super) fn kind_bits(info: u32) -> u8 {
    (info >> 24) as u8 & 0x7f
}

pub(super) fn vlen_bits(info: u32) -> u32 {
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

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}
