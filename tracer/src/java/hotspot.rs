//! HotSpot's own tables, read from outside: where its interpreter is, which methods a frame of the
//! interpreter or of compiled code runs, and what its flags are.
//!
//! Offsets are taken from the description that `libjvm.so` exports (`vm_structs`), so that nothing here
//! depends on the version but the encoding of streams (`unsigned5`) and where debug information is kept
//! (`nmethods`). All of it is another process's memory: every value is checked before it is believed.

use std::collections::HashMap;

use tracer_common::stack::CodeRange;

use crate::java::code_cache::{Blob, CodeCache};
use crate::java::flags;
use crate::java::methods::{Methods, Position};
use crate::java::nmethods::{CompiledFrame, NMethods};
use crate::java::vm_structs::VmStructs;
use crate::native::memory::Memory;
use crate::native::process::{Mapping, Process};

/// What is known of a JVM.
pub(crate) struct HotSpot {
    memory: Memory,
    methods: Methods,
    /// Where the interpreter's code is, and compiled code.
    pub(crate) code: CodeRange,
    cache: Option<CodeCache>,
    nmethods: Option<NMethods>,
    /// First number of the release; 8 for 25.x, as JDK 8's HotSpot counts.
    pub(crate) version: u32,
    flags: HashMap<String, bool>,
}

impl HotSpot {
    /// Reads the tables of the JVM that this process runs; `None` when it runs none.
    pub(crate) fn look(process: &Process) -> Option<Result<HotSpot, String>> {
        let library = process.hotspot()?;
        Some(Self::read(process, library))
    }

    fn read(process: &Process, library: &Mapping) -> Result<HotSpot, String> {
        let memory = Memory::open(process.pid)
            .map_err(|error| format!("its memory cannot be read ({error})"))?;
        let structs = VmStructs::read(&memory, process, library)?;
        let version = version(&memory, &structs);
        let methods = Methods::describe(&structs, version)?;
        let flags = flags::read(&memory, &structs);
        let cache = CodeCache::describe(&structs).ok();
        let nmethods = NMethods::describe(&structs, version).ok();
        let mut code = interpreter(&memory, &structs)?;
        if let Some(range) = cache.as_ref().and_then(|cache| cache.range(&memory)) {
            (code.code_start, code.code_end) = (range.start, range.end);
            let blind = flags.get("PreserveFramePointer") == Some(&false);
            code.memory = u64::from(blind && code.code_end != 0);
        }
        Ok(HotSpot { memory, methods, code, cache, nmethods, version, flags })
    }

    /// A flag of the JVM; `None` when it does not say.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.flags.get(name).copied()
    }

    /// Whether this address is of the code cache, which grows.
    pub(crate) fn is_compiled(&self, address: u64) -> bool {
        (self.code.code_start..self.code.code_end).contains(&address)
    }

    /// The piece of code that holds this address, where it is one of the code cache's.
    pub(crate) fn blob(&self, address: u64) -> Option<Blob> {
        self.cache.as_ref()?.blob(&self.memory, address)
    }

    /// The methods of a compiled frame that returns to `ip`, those inlined first; empty where the JVM's
    /// tables do not tell.
    pub(crate) fn inlined(&self, blob: &Blob, ip: u64) -> Vec<CompiledFrame> {
        let nmethods = self.nmethods.as_ref();
        nmethods.map_or_else(Vec::new, |nmethods| nmethods.frames(&self.memory, blob, ip))
    }

    /// Before looking at methods anew: the JVM has gone on since.
    pub(crate) fn refresh(&self) {
        self.memory.refresh();
    }

    /// The method at this address, as `java.net.Socket.connect`, and its line at this position. `None`
    /// when there is none.
    pub(crate) fn method(&self, method: u64, position: Position) -> Option<(String, Option<u32>)> {
        self.methods.name(&self.memory, method, position)
    }
}

fn version(memory: &Memory, structs: &VmStructs) -> u32 {
    let release = structs
        .field("Abstract_VM_Version", "_s_vm_release")
        .ok()
        .and_then(|address| memory.string(memory.u64(address)?))
        .unwrap_or_default();
    let first = release.split(['.', '+', '-']).next().and_then(|word| word.parse().ok());
    match first {
        Some(25) if release.starts_with("25.") && release.contains("-b") => 8,
        Some(number) => number,
        None => 0,
    }
}

/// `AbstractInterpreter::_code` is a queue of all its pieces of code.
fn interpreter(memory: &Memory, structs: &VmStructs) -> Result<CodeRange, String> {
    let not_yet = || "its interpreter is not there yet".to_owned();
    let queue = memory
        .u64(structs.field("AbstractInterpreter", "_code")?)
        .filter(|&queue| queue != 0)
        .ok_or_else(not_yet)?;
    let buffer = queue.wrapping_add(structs.field("StubQueue", "_stub_buffer")?);
    let limit = queue.wrapping_add(structs.field("StubQueue", "_buffer_limit")?);
    let (start, length) = memory.u64(buffer).zip(memory.u32(limit)).ok_or_else(not_yet)?;
    let end = start.saturating_add(u64::from(length));
    Ok(CodeRange { start, end, ..CodeRange::default() })
}
