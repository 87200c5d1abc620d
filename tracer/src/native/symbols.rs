//! Frames of ELF files.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::rc::{Rc, Weak};

use blazesym::symbolize::source::{Process as Traced, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

use crate::frame::Frame;
use crate::native::process::{Mapping, Process};
use crate::native::tables::{Return, Tables};

/// More tables than that are let go of, all at once: unwinding reads them again. Those of a browser have 30 MB.
const MOST_BYTES: usize = 16 << 20;

/// Names functions.
pub(crate) struct Native {
    symbolizer: Symbolizer,
    /// By process and path, for two containers may have other files of the same name.
    tables: HashMap<(u32, String), Option<Rc<Tables>>>,
    /// The same by file: a hundred processes of one program have them once.
    files: HashMap<FileId, Weak<Tables>>,
}

/// A file as it is: device, inode, size, and when it was changed.
type FileId = (u64, u64, u64, (i64, i64));

fn file_id(file: &File) -> Option<FileId> {
    let about = file.metadata().ok()?;
    Some((about.dev(), about.ino(), about.size(), (about.mtime(), about.mtime_nsec())))
}

impl Native {
    pub(crate) fn new() -> Native {
        Native { symbolizer: Symbolizer::new(), tables: HashMap::new(), files: HashMap::new() }
    }

    /// Keeps what belongs to these processes only.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.tables.retain(|&(pid, _), _| is_kept(pid));
        self.files.retain(|_, tables| tables.strong_count() != 0);
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
        self.tables(process, program).is_some_and(|tables| tables.hides_callers())
    }

    fn tables(&mut self, process: &Process, mapping: &Mapping) -> Option<Rc<Tables>> {
        let key = (process.pid, mapping.path.clone());
        if let Some(known) = self.tables.get(&key) {
            return known.clone();
        }
        let tables = self.shared(process, mapping);
        let live = self.files.values().filter_map(Weak::upgrade);
        if live.map(|tables| tables.bytes()).sum::<usize>() > MOST_BYTES || self.tables.len() > 4096
        {
            self.tables.clear();
            self.files.retain(|_, tables| tables.strong_count() != 0);
        }
        self.tables.insert(key, tables.clone());
        tables
    }

    /// Those of the file, read once for all processes.
    fn shared(&mut self, process: &Process, mapping: &Mapping) -> Option<Rc<Tables>> {
        let file = process.open(mapping).ok()?;
        let id = file_id(&file)?;
        if let Some(tables) = self.files.get(&id).and_then(Weak::upgrade) {
            return Some(tables);
        }
        let tables = Rc::new(Tables::read(file)?);
        self.files.insert(id, Rc::downgrade(&tables));
        Some(tables)
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_of_one_program_share_its_tables() {
        let children = [0, 1].map(|_| Command::new("sleep").arg("60").spawn().expect("a child"));
        let mut native = Native::new();
        let mut tables = |pid| {
            // Before exec the child is this program.
            let sleeps = |process: &Process| {
                process.mappings.iter().find(|mapping| mapping.file_name() == "sleep").cloned()
            };
            loop {
                let process = Process::look(pid).expect("it is there");
                if let Some(mapping) = sleeps(&process) {
                    break native.tables(&process, &mapping).expect("it has tables");
                }
            }
        };
        let [one, other] = [&children[0], &children[1]].map(|child| tables(child.id()));
        assert!(Rc::ptr_eq(&one, &other));
        drop((one, other));
        native.keep(|_| false);
        assert!(native.files.is_empty());
        for mut child in children {
            child.kill().and_then(|()| child.wait()).expect("it ends");
        }
    }
}
