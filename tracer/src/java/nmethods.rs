//! The debug information of compiled methods, where each version of HotSpot keeps it.
//!
//! JDK 25 was read for one form, JDK 23 for the second, JDK 8 to 21 for the third (`nmethod.hpp`). A value
//! that leads nowhere ends the search: then only the method that was compiled is known.

use crate::java::code_cache::Blob;
use crate::java::scopes::{MOST_DEPTH, MOST_PCS, PcDesc, chain, find};
use crate::java::unsigned5::Encoding;
use crate::java::vm_structs::VmStructs;
use crate::native::memory::Memory;

/// Bytes of a stream of scopes: one further on is none.
const MOST_STREAM: u32 = 64 << 20;

/// A method of a compiled frame, inlined or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompiledFrame {
    /// Its `Method*`.
    pub(crate) method: u64,
    /// The bytecode it stands at, counted from its first.
    pub(crate) bytecode: u32,
}

/// Where the parts of an nmethod are. Offsets of fields.
pub(super) struct NMethods {
    code: Code,
    pcs: u64,
    scopes: Scopes,
    metadata: Metadata,
    pc_desc: PcFields,
    encoding: Encoding,
}

struct PcFields {
    size: u64,
    pc: u64,
    scope: u64,
}

/// Where its instructions begin.
enum Code {
    /// A field has the address.
    Address(u64),
    /// A field has the offset from the blob.
    Offset(u64),
}

/// Where its `PcDesc`s and scopes are.
enum Scopes {
    /// Offsets from `_immutable_data`, JDK 23 and later; the scopes end the `PcDesc`s.
    Immutable { data: u64, scopes: u64 },
    /// The `PcDesc`s at an offset from the blob, ended by what `end` tells; the scopes at an address.
    Blob { end: u64, scopes: u64 },
    /// Both at offsets from the blob: JDK 8.
    Old { end: u64, scopes: u64 },
}

/// Where its table of `Method*` and `Klass*` is.
enum Metadata {
    /// Behind the relocations in `_mutable_data`: JDK 25.
    Mutable { data: u64, relocations: u64 },
    /// A short offset from its data: JDK 23.
    Data { data: u64, metadata: u64 },
    /// An offset from the blob.
    Blob(u64),
}

impl NMethods {
    pub(super) fn describe(structs: &VmStructs, version: u32) -> Result<NMethods, String> {
        let blob = |field: &str| structs.field("CodeBlob", field);
        let own = |field: &str| structs.field("nmethod", field);
        let immutable = own("_immutable_data").ok();
        let scopes = match (immutable, structs.field("CompiledMethod", "_scopes_data_begin")) {
            (Some(data), _) => Scopes::Immutable { data, scopes: own("_scopes_data_offset")? },
            (None, Ok(scopes)) => Scopes::Blob { end: own("_dependencies_offset")?, scopes },
            (None, Err(_)) => Scopes::Old {
                end: own("_dependencies_offset")?,
                scopes: own("_scopes_data_offset")?,
            },
        };
        let metadata = match (blob("_mutable_data"), immutable) {
            (Ok(data), _) => Metadata::Mutable { data, relocations: blob("_relocation_size")? },
            (Err(_), Some(_)) => {
                Metadata::Data { data: blob("_data_offset")?, metadata: own("_metadata_offset")? }
            }
            (Err(_), None) => Metadata::Blob(own("_metadata_offset")?),
        };
        let pc = |field: &str| structs.field("PcDesc", field);
        Ok(NMethods {
            code: match blob("_code_begin") {
                Ok(address) => Code::Address(address),
                Err(_) => Code::Offset(blob("_code_offset")?),
            },
            pcs: own("_scopes_pcs_offset")?,
            scopes,
            metadata,
            pc_desc: PcFields {
                size: structs.size("PcDesc").ok().filter(|&size| size != 0).ok_or("no PcDesc")?,
                pc: pc("_pc_offset")?,
                scope: pc("_scope_decode_offset")?,
            },
            encoding: Encoding::of(version),
        })
    }

    /// The methods that the code at this return address is of, those inlined first. Empty where nothing
    /// tells, or what tells contradicts itself.
    pub(super) fn frames(&self, memory: &Memory, blob: &Blob, ip: u64) -> Vec<CompiledFrame> {
        self.read(memory, blob, ip).unwrap_or_default()
    }

    fn read(&self, memory: &Memory, blob: &Blob, ip: u64) -> Option<Vec<CompiledFrame>> {
        let own = blob.method.filter(|&method| method != 0)?;
        let offset = |base: u64, field: u64| -> Option<u64> {
            Some(u64::from(memory.u32(base.checked_add(field)?)?))
        };
        let code = match self.code {
            Code::Address(field) => memory.u64(blob.at.checked_add(field)?)?,
            Code::Offset(field) => blob.at.checked_add(offset(blob.at, field)?)?,
        };
        let pc = i32::try_from(ip.checked_sub(code)?).ok()?;
        let (pcs, end, scopes) = self.tables(memory, blob, offset)?;
        let count = u32::try_from(end.checked_sub(pcs)? / self.pc_desc.size).ok()?;
        if count > MOST_PCS {
            return None;
        }
        let entry = find(count, pc, |index| {
            let at = pcs.checked_add(u64::from(index).checked_mul(self.pc_desc.size)?)?;
            let number = |field| memory.u32(at.checked_add(field)?).map(u32::cast_signed);
            Some(PcDesc { pc: number(self.pc_desc.pc)?, scope: number(self.pc_desc.scope)? })
        })?;
        let byte =
            |at: u32| memory.u8(scopes.checked_add(u64::from(at)).filter(|_| at < MOST_STREAM)?);
        let metadata = match self.metadata {
            Metadata::Mutable { data, relocations } => memory
                .u64(blob.at.checked_add(data)?)?
                .checked_add(offset(blob.at, relocations)?)?,
            Metadata::Data { data, metadata } => blob
                .at
                .checked_add(offset(blob.at, data)?)?
                .checked_add(u64::from(memory.u16(blob.at.checked_add(metadata)?)?))?,
            Metadata::Blob(field) => blob.at.checked_add(offset(blob.at, field)?)?,
        };
        let mut frames = Vec::with_capacity(MOST_DEPTH.min(8));
        for scope in chain(entry.scope, self.encoding, byte) {
            let slot = metadata.checked_add(8 * u64::from(scope.method - 1))?;
            frames.push(CompiledFrame { method: memory.u64(slot)?, bytecode: scope.bytecode });
        }
        // The outermost is what was compiled; where it is not, this is other code by now.
        (frames.last()?.method == own).then_some(frames)
    }

    /// First and end of the `PcDesc`s, and the stream of scopes.
    fn tables(
        &self,
        memory: &Memory,
        blob: &Blob,
        offset: impl Fn(u64, u64) -> Option<u64>,
    ) -> Option<(u64, u64, u64)> {
        let pcs = offset(blob.at, self.pcs)?;
        Some(match self.scopes {
            Scopes::Immutable { data, scopes } => {
                let data = memory.u64(blob.at.checked_add(data)?)?;
                let scopes = data.checked_add(offset(blob.at, scopes)?)?;
                (data.checked_add(pcs)?, scopes, scopes)
            }
            Scopes::Blob { end, scopes } => (
                blob.at.checked_add(pcs)?,
                blob.at.checked_add(offset(blob.at, end)?)?,
                memory.u64(blob.at.checked_add(scopes)?)?,
            ),
            Scopes::Old { end, scopes } => (
                blob.at.checked_add(pcs)?,
                blob.at.checked_add(offset(blob.at, end)?)?,
                blob.at.checked_add(offset(blob.at, scopes)?)?,
            ),
        })
    }
}
