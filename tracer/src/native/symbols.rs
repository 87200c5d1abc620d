//! Frames of ELF files.

use std::collections::HashMap;

use blazesym::symbolize::source::{Process as Traced, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

use crate::frame::Frame;
use crate::native::process::{Mapping, Process};
use crate::native::tables::{Return, Tables};

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
    /// caller. `link` is the link register, where that may have the return address: of the innermost function.
    /// `None` where there is no table, or memory.
    pub(crate) fn step(
        &mut self,
        process: &Process,
        lookup: u64,
        [sp, fp]: [u64; 2],
        link: Option<u64>,
        word: &dyn Fn(u64) -> Option<u64>,
    ) -> Option<[u64; 3]> {
        let mapping = process.code_at(lookup).filter(|mapping| !mapping.path.is_empty())?;
        let tables = self.tables(process, mapping)?;
        let address = tables.linked_address(lookup - mapping.start + mapping.offset)?;
        let row = tables.row(address)?;
        let base = if row.from_fp { fp } else { sp };
        let above = base.checked_add_signed(row.offset)?;
        let caller = match row.returns {
            Return::At(offset) => word(above.checked_add_signed(offset)?)?,
            Return::Link => link?,
        };
        let fp = match row.saved_fp {
            Some(offset) => word(above.checked_add_signed(offset)?)?,
            None => fp,
        };
        Some([tables.address(caller), above, fp])
    }

    /// Whether a walk along the frame pointers of this process's own program may miss callers without a sign.
    pub(crate) fn hides_callers(&mut self, process: &Process) -> bool {
        let Some(program) = process.mappings.iter().find(|mapping| mapping.executable) else {
            return false;
        };
        self.tables(process, program).is_some_and(Tables::hides_callers)
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
        link: Option<u64>,
        top: &[u64],
    ) -> Option<u64> {
        let mapping = process.code_at(ip).filter(|mapping| !mapping.path.is_empty())?;
        let tables = self.tables(process, mapping)?;
        let row = tables.row(tables.linked_address(ip - mapping.start + mapping.offset)?)?;
        let caller = match row.returns {
            Return::Link => link?,
            // Counted from the frame pointer: it has a frame, and the walk has its caller.
            Return::At(_) if row.from_fp => return None,
            Return::At(at) => {
                let offset = u64::try_from(row.offset.checked_add(at)?).ok()?;
                *top.get(usize::try_from(offset / 8).ok().filter(|_| offset.is_multiple_of(8))?)?
            }
        };
        let caller = tables.address(caller);
        process.code_at(caller).map(|_| caller)
    }
}
