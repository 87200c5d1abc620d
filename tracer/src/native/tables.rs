//! Unwind tables of ELF files (`.eh_frame`): how to come from a function to its caller.

use std::fs::File;

use gimli::{
    BaseAddresses, CallFrameInstruction, CfaRule, CieOrFde, EhFrame, EndianSlice, NativeEndian,
    Register, RegisterRule, UnwindContext, UnwindSection, Vendor,
};
use object::{Architecture, Object, ObjectSection, ObjectSegment, ReadCache};

/// User space of aarch64 has 48 bits of addresses. Where return addresses are signed (pointer authentication), the
/// signature is in the bits above. Processes that ask for more than 48 bits get them only by a hint to mmap.
const ADDRESS_BITS: u64 = (1 << 48) - 1;

/// The numbers that DWARF gives to an architecture's registers.
#[derive(Clone, Copy, Debug)]
struct Registers {
    frame: Register,
    stack: Register,
    /// Where a call leaves the return address; where there is none, it is on the stack.
    link: Option<Register>,
}

impl Registers {
    fn of(architecture: Architecture) -> Option<Registers> {
        match architecture {
            Architecture::X86_64 => {
                Some(Registers { frame: Register(6), stack: Register(7), link: None })
            }
            Architecture::Aarch64 => {
                let link = Some(Register(30));
                Some(Registers { frame: Register(29), stack: Register(31), link })
            }
            _ => None,
        }
    }
}

/// Where a function has the address it returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// At this distance from the canonical frame address.
    At(i64),
    /// In the link register still.
    Link,
}

/// How to come from a function to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The canonical frame address is counted from the frame pointer, else from the stack pointer.
    pub(super) from_fp: bool,
    /// Its distance.
    pub(super) offset: i64,
    /// Where the caller's frame pointer was saved, counted from the canonical frame address.
    pub(super) saved_fp: Option<i64>,
    /// Where the return address is.
    pub(super) returns: Return,
}

/// A file with its unwind tables.
pub(super) struct Tables {
    /// Address it is linked at, of the file's offsets.
    segments: Vec<(u64, u64, u64)>,
    eh_frame: Vec<u8>,
    eh_frame_at: u64,
    registers: Registers,
}

impl Tables {
    pub(super) fn read(file: File) -> Option<Tables> {
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).ok()?;
        let segments = elf
            .segments()
            .map(|segment| {
                let (offset, size) = segment.file_range();
                (offset, size, segment.address())
            })
            .collect();
        let section = elf.section_by_name(".eh_frame")?;
        Some(Tables {
            segments,
            eh_frame: section.data().ok()?.to_vec(),
            eh_frame_at: section.address(),
            registers: Registers::of(elf.architecture())?,
        })
    }

    /// What they take.
    pub(super) fn bytes(&self) -> usize {
        self.eh_frame.len()
    }

    pub(super) fn linked_address(&self, offset: u64) -> Option<u64> {
        let within = |&&(from, size, _): &&(u64, u64, u64)| {
            (from..from.saturating_add(size)).contains(&offset)
        };
        let (from, _, address) = self.segments.iter().find(within)?;
        address.checked_add(offset - from)
    }

    /// A return address without its signature.
    pub(super) fn address(&self, word: u64) -> u64 {
        if self.registers.link.is_some() { word & ADDRESS_BITS } else { word }
    }

    fn section(&self) -> (EhFrame<EndianSlice<'_, NativeEndian>>, BaseAddresses) {
        let mut section = EhFrame::from(EndianSlice::new(&self.eh_frame, NativeEndian));
        if self.registers.link.is_some() {
            section.set_vendor(Vendor::AArch64);
        }
        (section, BaseAddresses::default().set_eh_frame(self.eh_frame_at))
    }

    /// What the unwind table says of this instruction.
    pub(super) fn row(&self, address: u64) -> Option<Step> {
        let (section, bases) = self.section();
        let mut context = UnwindContext::new();
        let row = section
            .unwind_info_for_address(&bases, &mut context, address, EhFrame::cie_from_offset)
            .ok()?;
        let Registers { frame, stack, link } = self.registers;
        let (from_fp, offset) = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } if *register == stack => {
                (false, *offset)
            }
            CfaRule::RegisterAndOffset { register, offset } if *register == frame => {
                (true, *offset)
            }
            _ => return None,
        };
        let saved = |register| match row.register(register) {
            Some(RegisterRule::Offset(offset)) => Some(offset),
            _ => None,
        };
        let returns = match link {
            // The call has put it there.
            None => Return::At(-8),
            Some(link) => match row.register(link) {
                Some(RegisterRule::Offset(offset)) => Return::At(offset),
                // The outermost function: nobody called it.
                Some(RegisterRule::Undefined) => return None,
                None | Some(RegisterRule::SameValue) => Return::Link,
                Some(_) => return None,
            },
        };
        Some(Step { from_fp, offset, saved_fp: saved(frame), returns })
    }

    /// Whether functions of this file save where they return to and not the frame pointer: a walk along frame
    /// pointers then misses callers, and nothing shows it. Only aarch64 has that; on x86-64 such a walk breaks off.
    pub(super) fn hides_callers(&self) -> bool {
        let Registers { frame, link: Some(link), .. } = self.registers else { return false };
        let (section, bases) = self.section();
        let mut entries = section.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
            let (mut saves_link, mut saves_frame) = (false, false);
            let mut instructions = fde.instructions(&section, &bases);
            while let Ok(Some(instruction)) = instructions.next() {
                if let CallFrameInstruction::Offset { register, .. } = instruction {
                    saves_link |= register == link;
                    saves_frame |= register == frame;
                }
            }
            if saves_link && !saves_frame {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// An entry of `.eh_frame`: its length, then what it holds.
    fn entry(section: &mut Vec<u8>, mut content: Vec<u8>) {
        // DW_CFA_nop.
        content.resize(content.len().next_multiple_of(8) + 4, 0);
        section.extend(u32::try_from(content.len()).unwrap().to_ne_bytes());
        section.extend(content);
    }

    /// Functions of 0x100 bytes each from 0x1000 on, with these instructions, as compilers write them for aarch64.
    fn tables(functions: &[&[u8]]) -> Tables {
        let mut section = Vec::new();
        // Identifier, version 1, "zR", code alignment 4, data alignment -8, return address in x30, addresses as they
        // are; DW_CFA_def_cfa sp, 0.
        let mut common = vec![0, 0, 0, 0, 1, b'z', b'R', 0, 4, 0x78, 30, 1, 0];
        common.extend([0x0c, 31, 0]);
        entry(&mut section, common);
        for (number, instructions) in functions.iter().enumerate() {
            let back = u32::try_from(section.len() + 4).unwrap().to_ne_bytes();
            let mut function = back.to_vec();
            function.extend((0x1000 + 0x100 * number as u64).to_ne_bytes());
            function.extend(0x100_u64.to_ne_bytes());
            function.push(0);
            function.extend(*instructions);
            entry(&mut section, function);
        }
        section.extend([0; 4]);
        Tables {
            segments: Vec::new(),
            eh_frame: section,
            eh_frame_at: 0,
            registers: Registers::of(Architecture::Aarch64).unwrap(),
        }
    }

    /// Four bytes on: DW_CFA_advance_loc; frame of 32 bytes; x29 and x30 at its end.
    const RECORD: &[u8] = &[0x41, 0x0e, 32, 0x9d, 4, 0x9e, 3];
    /// As with -fomit-frame-pointer: only x30.
    const LINK_ONLY: &[u8] = &[0x41, 0x0e, 16, 0x9e, 2];
    /// DW_CFA_AARCH64_negate_ra_state: the return address is signed, then saved.
    const SIGNED: &[u8] = &[0x41, 0x2d, 0x41, 0x0e, 16, 0x9d, 2, 0x9e, 1];

    #[test]
    fn a_function_of_aarch64_returns_by_the_link_register_until_that_is_saved() {
        let tables = tables(&[&[], RECORD, LINK_ONLY, SIGNED]);
        let step = |offset, saved_fp, returns| Step { from_fp: false, offset, saved_fp, returns };
        for (address, expected) in [
            (0x1050, step(0, None, Return::Link)),
            (0x1100, step(0, None, Return::Link)),
            (0x1104, step(32, Some(-32), Return::At(-24))),
            (0x1204, step(16, None, Return::At(-16))),
            (0x1304, step(0, None, Return::Link)),
            (0x1308, step(16, Some(-16), Return::At(-8))),
        ] {
            assert_eq!(tables.row(address), Some(expected), "{address:#x}");
        }
        assert_eq!(tables.row(0x2000), None);
    }

    #[test]
    fn code_without_frame_records_is_told_from_code_with() {
        assert!(!tables(&[&[], RECORD, SIGNED]).hides_callers());
        assert!(tables(&[RECORD, LINK_ONLY]).hides_callers());
    }

    #[test]
    fn a_signature_is_no_part_of_an_address() {
        let tables = tables(&[]);
        assert_eq!(tables.address(0x0055_aaaa_bbbb_cccc), 0xaaaa_bbbb_cccc);
        assert_eq!(tables.address(0xaaaa_bbbb_cccc), 0xaaaa_bbbb_cccc);
    }
}
