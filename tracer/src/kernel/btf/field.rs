//! Where a field stands: a walk from struct to member, through typedefs, qualifiers and anonymous members.

use super::error::BtfError;
use super::index::Btf;
use super::types::{Field, Kind, Shape, Type, u32_at};

/// `struct btf_member`.
pub(super) const MEMBER_LEN: usize = 12;
/// Typedefs and qualifiers followed in a row. Real chains have a handful.
const CHAIN_MAX: usize = 32;
/// Nesting of anonymous structs, and of arrays. Real ones have a handful.
const DEPTH_MAX: usize = 16;
/// Members looked at in one lookup. Real structs have a few hundred.
const MEMBERS_MAX: u32 = 1 << 16;
/// Size of a pointer.
const POINTER: u32 = 8;

impl Btf {
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

    /// The byte, from the start of struct `root`, and the bit in it of a bit field of one bit at the end of
    /// a dotted path. `None` where there is none.
    pub fn bit(&self, root: &str, path: &str) -> Option<(u32, u32)> {
        let (owner, name) = path.rsplit_once('.').unwrap_or(("", path));
        let (base, owner) = match owner {
            "" => (0, self.struct_id(root)?),
            owner => {
                let field = self.field(root, owner).ok()?;
                (field.offset, field.type_id)
            }
        };
        let (_, owner) = self.strip(owner)?;
        let mut budget = MEMBERS_MAX;
        let member = self.member(&owner, name.as_bytes(), DEPTH_MAX, &mut budget)?;
        let within = member.bits < u64::from(owner.size_or_type) * 8;
        let byte = base.checked_add(u32::try_from(member.bits / 8).ok()?)?;
        let bit =
            if cfg!(target_endian = "little") { member.bits % 8 } else { 7 - member.bits % 8 };
        (member.bitfield && within).then_some((byte, 1 << bit))
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

    /// Takes typedefs and qualifiers off. `None` for `void` and where the chain leads nowhere.
    pub(super) fn strip(&self, mut id: u32) -> Option<(u32, Type<'_>)> {
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
