//! Frames of ELF files.

use std::collections::HashMap;

use blazesym::symbolize::source::{Process as Traced, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EndianSlice, NativeEndian, UnwindContext, UnwindSection,
};
use object::{Object, ObjectSection, ReadCache};

use super::frame::Frame;
use super::process::{Mapping, Process};

/// A file with its unwind tables.
struct Tables {
    /// Address it is linked at, of the file's offsets.
    segments: Vec<(u64, u64, u64)>,
    eh_frame: Vec<u8>,
    eh_frame_at: u64,
}

/// Names functions.
pub(super) struct Native {
    symbolizer: Symbolizer,
    /// By device-independent name and size: path and start in the file.
    tables: HashMap<(u32, String), Option<Tables>>,
}

impl Native {
    pub(super) fn new() -> Native {
        Native { symbolizer: Symbolizer::new(), tables: HashMap::new() }
    }

    /// The functions at an address, those inlined first; nothing when no file tells.
    pub(super) fn frames(&self, process: &Process, address: u64) -> Vec<Frame> {
        let Some(mapping) = process.code_at(address).filter(|mapping| !mapping.path.is_empty())
        else {
            return Vec::new();
        };
        let mut source = Traced::new(process.pid.into());
        source.perf_map = false;
        let found =
            self.symbolizer.symbolize_single(&Source::Process(source), Input::AbsAddr(address));
        let file = mapping.file_name();
        let Ok(Symbolized::Sym(symbol)) = found else {
            // No symbols: where it is in the file is what a debugger starts from.
            let offset = address - mapping.start + mapping.offset;
            return vec![Frame::unknown(format!("{file}+{offset:#x}"))];
        };
        let line =
            |info: Option<&blazesym::symbolize::CodeInfo<'_>>| info.and_then(|info| info.line);
        let mut frames: Vec<Frame> = symbol
            .inlined
            .iter()
            .rev()
            .map(|inner| Frame::native(&inner.name, file, line(inner.code_info.as_ref())))
            .collect();
        frames.push(Frame::native(&symbol.name, file, line(symbol.code_info.as_deref())));
        frames
    }

    /// Who called the innermost function, when that has no frame of its own, as the C library's wrappers
    /// of system calls have none: the walk along frame pointers misses its caller.
    pub(super) fn caller_of_leaf(
        &mut self,
        process: &Process,
        ip: u64,
        sp: u64,
        top: &[u64],
    ) -> Option<u64> {
        let mapping = process.code_at(ip).filter(|mapping| !mapping.path.is_empty())?;
        let key = (process.pid, mapping.path.clone());
        if self.tables.len() > 256 {
            self.tables.clear();
        }
        let tables =
            self.tables.entry(key).or_insert_with(|| Tables::read(process, mapping)).as_ref()?;
        let address = tables.linked_address(ip - mapping.start + mapping.offset)?;
        let above = tables.stack_above(address)?;
        // The return address stands right below the canonical frame address.
        let word = above.checked_sub(8).filter(|offset| offset.is_multiple_of(8))? / 8;
        let caller = *top.get(usize::try_from(word).ok()?)?;
        let _ = sp;
        process.code_at(caller).map(|_| caller)
    }
}

impl Tables {
    fn read(process: &Process, mapping: &Mapping) -> Option<Tables> {
        let cache = ReadCache::new(process.open(mapping).ok()?);
        let elf = object::File::parse(&cache).ok()?;
        let segments = {
            use object::ObjectSegment;
            elf.segments()
                .map(|segment| {
                    let (offset, size) = segment.file_range();
                    (offset, size, segment.address())
                })
                .collect()
        };
        let section = elf.section_by_name(".eh_frame")?;
        Some(Tables {
            segments,
            eh_frame: section.data().ok()?.to_vec(),
            eh_frame_at: section.address(),
        })
    }

    fn linked_address(&self, offset: u64) -> Option<u64> {
        let within = |&&(from, size, _): &&(u64, u64, u64)| {
            (from..from.saturating_add(size)).contains(&offset)
        };
        let (from, _, address) = self.segments.iter().find(within)?;
        address.checked_add(offset - from)
    }

    /// Bytes from the stack pointer to the canonical frame address at this instruction; `None` when it is
    /// counted from the frame pointer.
    fn stack_above(&self, address: u64) -> Option<u64> {
        let section = EhFrame::from(EndianSlice::new(&self.eh_frame, NativeEndian));
        let bases = BaseAddresses::default().set_eh_frame(self.eh_frame_at);
        let mut context = UnwindContext::new();
        let row = section
            .unwind_info_for_address(&bases, &mut context, address, EhFrame::cie_from_offset)
            .ok()?;
        // Numbers of the stack pointer in DWARF: 7 on x86-64, 31 on aarch64, where the return address is in
        // a register and the frame pointer's chain has the caller.
        match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset }
                if cfg!(target_arch = "x86_64") && register.0 == 7 =>
            {
                u64::try_from(*offset).ok()
            }
            _ => None,
        }
    }
}
