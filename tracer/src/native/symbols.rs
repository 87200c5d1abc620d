//! Frames of ELF files.

use std::collections::HashMap;

use blazesym::symbolize::source::{Process as Traced, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EndianSlice, NativeEndian, Register, RegisterRule,
    UnwindContext, UnwindSection,
};
use object::{Object, ObjectSection, ReadCache};

use crate::frame::Frame;
use crate::native::process::{Mapping, Process};

/// A file with its unwind tables.
struct Tables {
    /// Address it is linked at, of the file's offsets.
    segments: Vec<(u64, u64, u64)>,
    eh_frame: Vec<u8>,
    eh_frame_at: u64,
}

/// Names functions.
pub(crate) struct Native {
    symbolizer: Symbolizer,
    /// By process and path, for two containers may have other files of the same name.
    tables: HashMap<(u32, String), Option<Tables>>,
}

impl Native {
    pub(crate) fn new() -> Native {
        Native { symbolizer: Symbolizer::new(), tables: HashMap::new() }
    }

    /// Keeps what belongs to these processes only.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.tables.retain(|&(pid, _), _| is_kept(pid));
    }

    /// The functions at an address, those inlined first; nothing when no file tells.
    pub(crate) fn frames(&self, process: &Process, address: u64) -> Vec<Frame> {
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

    /// One step outwards by the unwind table of a function: instruction, stack and frame pointer of its
    /// caller. `None` where there is no table, or memory.
    pub(crate) fn step(
        &mut self,
        process: &Process,
        lookup: u64,
        [sp, fp]: [u64; 2],
        word: &dyn Fn(u64) -> Option<u64>,
    ) -> Option<[u64; 3]> {
        let mapping = process.code_at(lookup).filter(|mapping| !mapping.path.is_empty())?;
        let tables = self.tables(process, mapping)?;
        let address = tables.linked_address(lookup - mapping.start + mapping.offset)?;
        let row = tables.row(address)?;
        let base = if row.from_fp { fp } else { sp };
        let above = base.checked_add_signed(row.offset)?;
        let caller = word(above.checked_sub(8)?)?;
        let fp = match row.saved_fp {
            Some(offset) => word(above.checked_add_signed(offset)?)?,
            None => fp,
        };
        Some([caller, above, fp])
    }

    fn tables(&mut self, process: &Process, mapping: &Mapping) -> Option<&Tables> {
        let key = (process.pid, mapping.path.clone());
        if self.tables.len() > 256 {
            self.tables.clear();
        }
        self.tables.entry(key).or_insert_with(|| Tables::read(process, mapping)).as_ref()
    }

    /// Who called the innermost function, when that has no frame of its own, as the C library's wrappers
    /// of system calls have none: the walk along frame pointers misses its caller.
    pub(crate) fn caller_of_leaf(
        &mut self,
        process: &Process,
        ip: u64,
        top: &[u64],
    ) -> Option<u64> {
        let mapping = process.code_at(ip).filter(|mapping| !mapping.path.is_empty())?;
        let tables = self.tables(process, mapping)?;
        let row = tables.row(tables.linked_address(ip - mapping.start + mapping.offset)?)?;
        // Counted from the frame pointer: it has a frame, and the walk has its caller.
        let above = u64::try_from(row.offset).ok().filter(|_| !row.from_fp)?;
        // The return address stands right below the canonical frame address.
        let word = above.checked_sub(8).filter(|offset| offset.is_multiple_of(8))? / 8;
        let caller = *top.get(usize::try_from(word).ok()?)?;
        process.code_at(caller).map(|_| caller)
    }
}

/// How to come from a function to its caller.
struct Step {
    /// The canonical frame address is counted from the frame pointer, else from the stack pointer.
    from_fp: bool,
    /// Its distance.
    offset: i64,
    /// Where the caller's frame pointer was saved, counted from the canonical frame address.
    saved_fp: Option<i64>,
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

    /// What the unwind table says of this instruction. Only x86-64: on aarch64 every function that calls
    /// another has a frame record, and the return address of the innermost is in a register.
    fn row(&self, address: u64) -> Option<Step> {
        // Numbers that DWARF gives to the registers.
        const FRAME: u16 = 6;
        const STACK: u16 = 7;
        if !cfg!(target_arch = "x86_64") {
            return None;
        }
        let section = EhFrame::from(EndianSlice::new(&self.eh_frame, NativeEndian));
        let bases = BaseAddresses::default().set_eh_frame(self.eh_frame_at);
        let mut context = UnwindContext::new();
        let row = section
            .unwind_info_for_address(&bases, &mut context, address, EhFrame::cie_from_offset)
            .ok()?;
        let (from_fp, offset) = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } if register.0 == STACK => {
                (false, *offset)
            }
            CfaRule::RegisterAndOffset { register, offset } if register.0 == FRAME => {
                (true, *offset)
            }
            _ => return None,
        };
        let saved_fp = match row.register(Register(FRAME)) {
            Some(RegisterRule::Offset(offset)) => Some(offset),
            _ => None,
        };
        Some(Step { from_fp, offset, saved_fp })
    }
}
