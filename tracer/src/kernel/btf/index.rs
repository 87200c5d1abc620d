//! The header, and an index of the types by id and by name.

use std::fmt;
use std::ops::Range;

use super::error::BtfError;
use super::types::{Kind, Type, kind_bits, u32_at, usize_at, vlen_bits};

/// `BTF_MAGIC`.
pub(super) const MAGIC: u16 = 0xeb9f;
/// Length of the first header version; later ones only append to it.
const HEADER_LEN: usize = 24;
/// `struct btf_type`, which starts every type.
const TYPE_LEN: usize = 12;
/// `KSYM_NAME_LEN`: the kernel takes no longer names. Bounds the work for each.
const NAME_MAX: usize = 512;

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

    /// The first type of that name that is wanted.
    pub(super) fn find(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Option<u32> {
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
}

/// FNV-1a: names are short, and a collision costs one comparison.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
