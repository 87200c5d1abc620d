//! HotSpot's own tables, read from outside: where its interpreter is, which method a frame of the
//! interpreter runs, and what its flags are.
//!
//! `libjvm.so` exports a description of its structs for debuggers (`gHotSpotVMStructs`, `vmStructs.cpp`),
//! from which offsets are taken, so that nothing here depends on the version but the two encodings named
//! below. All of it is another process's memory: every value is checked before it is believed.

use std::collections::HashMap;

use object::{Object, ObjectSymbol, ReadCache};
use tracer_common::stack::CodeRange;

use crate::native::memory::Memory;
use crate::native::process::{Mapping, Process};

/// Entries of a table that are looked at; JDK 25 has 1,600.
const MOST_ENTRIES: u64 = 16_384;
/// Longest part of a name, bytes.
const LONGEST: u16 = 512;
/// Flags that are looked at; JDK 25 has 1,400.
const MOST_FLAGS: u64 = 8_192;
/// Bytes of a table of line numbers that are read.
const MOST_LINES: usize = 4096;
/// `ConstMethodFlags`: a table of line numbers follows the bytecodes. The lowest bit in all versions.
const HAS_LINES: u32 = 1;

/// What is known of a JVM.
pub(crate) struct HotSpot {
    memory: Memory,
    offsets: Offsets,
    /// Where the interpreter's code is, and compiled code.
    pub(crate) code: CodeRange,
    cache: Option<CodeCache>,
    /// First number of the release; 8 for 25.x, as JDK 8's HotSpot counts.
    pub(crate) version: u32,
    flags: HashMap<String, bool>,
}

struct Offsets {
    const_method: u64,
    constants: u64,
    name_index: u64,
    code_size: u64,
    const_method_flags: u64,
    const_method_size: u64,
    pool_holder: u64,
    pool_size: u64,
    class_name: u64,
    class_constants: u64,
    symbol_length: u64,
    symbol_body: u64,
}

/// A field: its offset, or of a static field its address.
struct Fields(HashMap<(String, String), u64>);

impl Fields {
    fn get(&self, class: &str, field: &str) -> Result<u64, String> {
        self.0
            .get(&(class.to_owned(), field.to_owned()))
            .copied()
            .ok_or_else(|| format!("this JVM does not describe {class}::{field}"))
    }
}

const FLAGS_WANTED: [&str; 2] = ["PreserveFramePointer", "DisableAttachMechanism"];

impl HotSpot {
    /// Reads the tables of the JVM that this process runs; `None` when it runs none.
    pub(crate) fn look(process: &Process) -> Option<Result<HotSpot, String>> {
        let library = process.hotspot()?;
        Some(Self::read(process, library))
    }

    fn read(process: &Process, library: &Mapping) -> Result<HotSpot, String> {
        let memory = Memory::open(process.pid)
            .map_err(|error| format!("its memory cannot be read ({error})"))?;
        let symbols = exported(process, library)?;
        let word = |name: &str| {
            let address =
                symbols.get(name).ok_or_else(|| format!("libjvm.so exports no {name}"))?;
            memory.u64(*address).ok_or_else(|| format!("{name} cannot be read"))
        };
        let fields = fields(&memory, &word)?;
        let sizes = sizes(&memory, &word)?;
        let size = |name: &str| {
            sizes.get(name).copied().ok_or_else(|| format!("this JVM does not describe {name}"))
        };
        let offsets = Offsets {
            const_method: fields.get("Method", "_constMethod")?,
            constants: fields.get("ConstMethod", "_constants")?,
            name_index: fields.get("ConstMethod", "_name_index")?,
            code_size: fields.get("ConstMethod", "_code_size")?,
            const_method_flags: fields
                .get("ConstMethod", "_flags")
                .or_else(|_| fields.get("ConstMethod", "_flags._flags"))?,
            const_method_size: size("ConstMethod")?,
            pool_holder: fields.get("ConstantPool", "_pool_holder")?,
            pool_size: size("ConstantPool")?,
            class_name: fields.get("Klass", "_name")?,
            class_constants: fields.get("InstanceKlass", "_constants")?,
            symbol_length: fields.get("Symbol", "_length")?,
            symbol_body: fields.get("Symbol", "_body")?,
        };
        let release = fields
            .get("Abstract_VM_Version", "_s_vm_release")
            .ok()
            .and_then(|address| memory.string(memory.u64(address)?))
            .unwrap_or_default();
        let first = release.split(['.', '+', '-']).next().and_then(|word| word.parse().ok());
        let version = match first {
            Some(25) if release.starts_with("25.") && release.contains("-b") => 8,
            Some(number) => number,
            None => 0,
        };
        let flags = flags(&memory, &fields, &size);
        let cache = CodeCache::describe(&fields, &size).ok();
        let mut code = interpreter(&memory, &fields)?;
        if let Some(heaps) = cache.as_ref().map(|cache| cache.heaps(&memory)) {
            code.code_start = heaps.iter().map(|heap| heap.low).min().unwrap_or(0);
            code.code_end = heaps.iter().map(|heap| heap.limit).max().unwrap_or(0);
            let blind = flags.get("PreserveFramePointer") == Some(&false);
            code.memory = u64::from(blind && cfg!(target_arch = "x86_64") && code.code_end != 0);
        }
        Ok(HotSpot { memory, offsets, code, cache, version, flags })
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
        let cache = self.cache.as_ref()?;
        let heaps = cache.heaps(&self.memory);
        let heap = heaps.iter().find(|heap| (heap.low..heap.high).contains(&address))?;
        cache.blob(&self.memory, heap, address)
    }

    /// Before looking at methods anew: the JVM has gone on since.
    pub(crate) fn refresh(&self) {
        self.memory.refresh();
    }

    /// The method at this address, as `java.net.Socket.connect`, and the line that the bytecode pointer
    /// stands for. `None` when there is none.
    pub(crate) fn method(&self, method: u64, bytecode: u64) -> Option<(String, Option<u32>)> {
        let (memory, at) = (&self.memory, &self.offsets);
        if method == 0 || !method.is_multiple_of(8) {
            return None;
        }
        let body = pointer(memory, method, at.const_method)?;
        let pool = pointer(memory, body, at.constants)?;
        let holder = pointer(memory, pool, at.pool_holder)?;
        // A circle that hardly anything but a method's closes.
        if pointer(memory, holder, at.class_constants)? != pool {
            return None;
        }
        let index = memory.u16(body.checked_add(at.name_index)?)?;
        let slot = pool.checked_add(at.pool_size)?.checked_add(8 * u64::from(index))?;
        let name = self.symbol(memory.u64(slot)?)?;
        let class = self.symbol(pointer(memory, holder, at.class_name)?)?;
        let line = self.line(body, bytecode);
        Some((format!("{}.{name}", class.replace('/', ".")), line))
    }

    fn symbol(&self, symbol: u64) -> Option<String> {
        let at = &self.offsets;
        let length = self.memory.u16(symbol.checked_add(at.symbol_length)?)?.min(LONGEST);
        let mut bytes = vec![0; usize::from(length)];
        let read = self.memory.read(symbol.checked_add(at.symbol_body)?, &mut bytes);
        (read && !bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn line(&self, body: u64, bytecode: u64) -> Option<u32> {
        let (memory, at) = (&self.memory, &self.offsets);
        if memory.u32(body.checked_add(at.const_method_flags)?)? & HAS_LINES == 0 {
            return None;
        }
        let code = body.checked_add(at.const_method_size)?;
        let size = memory.u16(body.checked_add(at.code_size)?)?;
        let index = bytecode.checked_sub(code).filter(|&index| index < u64::from(size))?;
        let table = code.checked_add(u64::from(size))?;
        let mut bytes = vec![0; MOST_LINES];
        // The end of the mapping may be nearer.
        while !memory.read(table, &mut bytes) {
            let half = bytes.len() / 2;
            if half < 8 {
                return None;
            }
            bytes.truncate(half);
        }
        line_of(&bytes, u32::try_from(index).ok()?, self.version >= 20)
    }
}

fn pointer(memory: &Memory, base: u64, offset: u64) -> Option<u64> {
    memory.u64(base.checked_add(offset)?).filter(|&word| word != 0 && word.is_multiple_of(8))
}

/// How HotSpot keeps its compiled code.
struct CodeCache {
    /// Address of the pointer to an array of pointers to heaps, or of the pointer to the only one.
    heaps: u64,
    array: Option<(u64, u64)>,
    memory: u64,
    segmap: u64,
    log2: u64,
    low: u64,
    high: u64,
    boundary: u64,
    header: u64,
    frame_size: u64,
    name: u64,
    method: u64,
}

/// A part of it.
struct Heap {
    low: u64,
    high: u64,
    /// As far as it may grow.
    limit: u64,
    segmap: u64,
    log2: u32,
}

/// A piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// `nmethod` for a compiled method.
    pub(crate) name: String,
    /// Bytes of its frame, return address and saved frame pointer included; 0 where it has none of fixed
    /// size.
    pub(crate) frame: u64,
    /// The `Method*` that was compiled.
    pub(crate) method: Option<u64>,
}

impl CodeCache {
    fn describe(
        fields: &Fields,
        size: &dyn Fn(&str) -> Result<u64, String>,
    ) -> Result<Self, String> {
        let (heaps, array) = match fields.get("CodeCache", "_heaps") {
            Ok(heaps) => {
                let length = fields
                    .get("GrowableArrayBase", "_len")
                    .or_else(|_| fields.get("GenericGrowableArray", "_len"))?;
                (heaps, Some((length, fields.get("GrowableArray<int>", "_data")?)))
            }
            // JDK 8.
            Err(_) => (fields.get("CodeCache", "_heap")?, None),
        };
        Ok(CodeCache {
            heaps,
            array,
            memory: fields.get("CodeHeap", "_memory")?,
            segmap: fields.get("CodeHeap", "_segmap")?,
            log2: fields.get("CodeHeap", "_log2_segment_size")?,
            low: fields.get("VirtualSpace", "_low")?,
            high: fields.get("VirtualSpace", "_high")?,
            boundary: fields.get("VirtualSpace", "_high_boundary")?,
            header: size("HeapBlock")?,
            frame_size: fields.get("CodeBlob", "_frame_size")?,
            name: fields.get("CodeBlob", "_name")?,
            method: fields
                .get("CompiledMethod", "_method")
                .or_else(|_| fields.get("nmethod", "_method"))?,
        })
    }

    fn heaps(&self, memory: &Memory) -> Vec<Heap> {
        let Some(first) = memory.u64(self.heaps) else { return Vec::new() };
        let all: Vec<u64> = match self.array {
            None => vec![first],
            Some((length, data)) => {
                let count = memory.u32(first.wrapping_add(length)).unwrap_or(0).min(16);
                let data = memory.u64(first.wrapping_add(data)).unwrap_or(0);
                (0..u64::from(count))
                    .filter_map(|at| memory.u64(data.wrapping_add(8 * at)))
                    .collect()
            }
        };
        all.into_iter().filter_map(|heap| self.heap(memory, heap)).collect()
    }

    fn heap(&self, memory: &Memory, heap: u64) -> Option<Heap> {
        let space = heap.checked_add(self.memory)?;
        Some(Heap {
            low: memory.u64(space.checked_add(self.low)?)?,
            high: memory.u64(space.checked_add(self.high)?)?,
            limit: memory.u64(space.checked_add(self.boundary)?)?,
            segmap: memory.u64(heap.checked_add(self.segmap)?.checked_add(self.low)?)?,
            log2: memory.u32(heap.checked_add(self.log2)?)?,
        })
    }

    /// `CodeHeap::find_start`: a byte for each segment says how far back its piece begins.
    fn blob(&self, memory: &Memory, heap: &Heap, address: u64) -> Option<Blob> {
        let mut segment = (address - heap.low).checked_shr(heap.log2)?;
        loop {
            match memory.u8(heap.segmap.checked_add(segment)?)? {
                0 => break,
                0xff => return None,
                back => segment = segment.checked_sub(u64::from(back))?,
            }
        }
        let block = heap.low.checked_add(segment.checked_shl(heap.log2)?)?;
        let blob = block.checked_add(self.header)?;
        let name = memory.string(memory.u64(blob.checked_add(self.name)?)?)?;
        let words = memory.u32(blob.checked_add(self.frame_size)?)?;
        let method = (name == "nmethod" || name == "native nmethod")
            .then(|| memory.u64(blob.checked_add(self.method)?))
            .flatten();
        // Larger than any frame: not what it seems.
        Some(Blob { name, frame: 8 * u64::from(if words < 1 << 16 { words } else { 0 }), method })
    }
}

/// Addresses of the exported symbols that describe the JVM.
fn exported(process: &Process, library: &Mapping) -> Result<HashMap<String, u64>, String> {
    let file =
        process.open(library).map_err(|error| format!("libjvm.so cannot be opened ({error})"))?;
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|error| format!("libjvm.so: {error}"))?;
    // The first segment of a shared library is linked at 0.
    Ok(elf
        .dynamic_symbols()
        .filter_map(|symbol| {
            let name = symbol.name().ok().filter(|name| name.starts_with("gHotSpotVM"))?;
            Some((name.to_owned(), library.start.checked_add(symbol.address())?))
        })
        .collect())
}

fn fields(memory: &Memory, word: &dyn Fn(&str) -> Result<u64, String>) -> Result<Fields, String> {
    let table = word("gHotSpotVMStructs")?;
    let stride = word("gHotSpotVMStructEntryArrayStride")?;
    let at = |name: &str| word(&format!("gHotSpotVMStructEntry{name}Offset"));
    let (class, field, is_static, offset, address) =
        (at("TypeName")?, at("FieldName")?, at("IsStatic")?, at("Offset")?, at("Address")?);
    let mut fields = HashMap::new();
    for index in 0..MOST_ENTRIES {
        let entry = table.wrapping_add(index.wrapping_mul(stride));
        let (Some(class), Some(field)) = (
            memory.u64(entry.wrapping_add(class)).filter(|&name| name != 0),
            memory.u64(entry.wrapping_add(field)),
        ) else {
            break;
        };
        let (Some(class), Some(field)) = (memory.string(class), memory.string(field)) else {
            break;
        };
        let is_static = memory.u32(entry.wrapping_add(is_static)).unwrap_or(0) != 0;
        let value = memory.u64(entry.wrapping_add(if is_static { address } else { offset }));
        fields.insert((class, field), value.unwrap_or(0));
    }
    Ok(Fields(fields))
}

fn sizes(
    memory: &Memory,
    word: &dyn Fn(&str) -> Result<u64, String>,
) -> Result<HashMap<String, u64>, String> {
    let table = word("gHotSpotVMTypes")?;
    let stride = word("gHotSpotVMTypeEntryArrayStride")?;
    let (name, size) =
        (word("gHotSpotVMTypeEntryTypeNameOffset")?, word("gHotSpotVMTypeEntrySizeOffset")?);
    let mut sizes = HashMap::new();
    for index in 0..MOST_ENTRIES {
        let entry = table.wrapping_add(index.wrapping_mul(stride));
        let Some(name) = memory.u64(entry.wrapping_add(name)).filter(|&name| name != 0) else {
            break;
        };
        let Some(name) = memory.string(name) else { break };
        sizes.insert(name, memory.u64(entry.wrapping_add(size)).unwrap_or(0));
    }
    Ok(sizes)
}

/// `AbstractInterpreter::_code` is a queue of all its pieces of code.
fn interpreter(memory: &Memory, fields: &Fields) -> Result<CodeRange, String> {
    let not_yet = || "its interpreter is not there yet".to_owned();
    let queue = memory
        .u64(fields.get("AbstractInterpreter", "_code")?)
        .filter(|&queue| queue != 0)
        .ok_or_else(not_yet)?;
    let buffer = queue.wrapping_add(fields.get("StubQueue", "_stub_buffer")?);
    let limit = queue.wrapping_add(fields.get("StubQueue", "_buffer_limit")?);
    let (start, length) = memory.u64(buffer).zip(memory.u32(limit)).ok_or_else(not_yet)?;
    let end = start.saturating_add(u64::from(length));
    Ok(CodeRange { start, end, ..CodeRange::default() })
}

fn flags(
    memory: &Memory,
    fields: &Fields,
    size: &dyn Fn(&str) -> Result<u64, String>,
) -> HashMap<String, bool> {
    // JDK 8 to 9 call the type `Flag`.
    let read = |class: &str| -> Option<HashMap<String, bool>> {
        let table = memory.u64(fields.get(class, "flags").ok()?)?;
        let count = memory.u64(fields.get(class, "numFlags").ok()?)?.min(MOST_FLAGS);
        let name = fields.get(class, "_name").ok()?;
        let address = fields.get(class, "_addr").ok()?;
        let stride = size(class).ok()?;
        let mut flags = HashMap::new();
        for index in 0..count {
            let entry = table.wrapping_add(index.wrapping_mul(stride));
            let Some(text) = memory.u64(entry.wrapping_add(name)).and_then(|at| memory.string(at))
            else {
                continue;
            };
            if FLAGS_WANTED.contains(&text.as_str()) {
                let value = memory.u64(entry.wrapping_add(address)).and_then(|at| memory.u8(at));
                flags.insert(text, value? != 0);
            }
        }
        Some(flags)
    };
    read("JVMFlag").or_else(|| read("Flag")).unwrap_or_default()
}

/// The line of a bytecode, from a `CompressedLineNumberStream`: pairs of steps, in bytecodes and lines,
/// five and three bits in a byte where they fit, else after 0xff two signed numbers in `UNSIGNED5`, whose
/// encoding leaves zero out from JDK 20 on.
fn line_of(bytes: &[u8], index: u32, no_zero: bool) -> Option<u32> {
    let mut bytes = bytes.iter().copied();
    let (mut at, mut line) = (0i64, 0i64);
    let mut found = None;
    loop {
        match bytes.next()? {
            0 => return found,
            0xff => {
                at += i64::from(signed(&mut bytes, no_zero)?);
                line += i64::from(signed(&mut bytes, no_zero)?);
            }
            both => {
                at += i64::from(both >> 3);
                line += i64::from(both & 7);
            }
        }
        // Entries need not be in order: the last that begins at or before it.
        if at > i64::from(index) {
            if found.is_some() {
                return found;
            }
            continue;
        }
        found = u32::try_from(line).ok().filter(|&line| line != 0);
    }
}

fn signed(bytes: &mut impl Iterator<Item = u8>, no_zero: bool) -> Option<i32> {
    let excluded = u32::from(no_zero);
    // 64 codes say that more bytes follow.
    let low = 256 - 64 - excluded;
    let mut sum = 0u32;
    for digit in 0..5 {
        let byte = u32::from(bytes.next()?).checked_sub(excluded)?;
        sum = sum.wrapping_add(byte << (6 * digit));
        if byte < low || digit == 4 {
            break;
        }
    }
    Some((sum >> 1) as i32 ^ -((sum & 1) as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_decoded() {
        // Bytecode 0 is line 10 (too far for three bits), 5 is line 11, 9 is line 9, 40 is line 109.
        let old = [0xff, 0, 20, 5 << 3 | 1, 0xff, 8, 3, 0xff, 62, 200, 0, 0];
        let check = |index, expect| assert_eq!(line_of(&old, index, false), expect, "{index}");
        check(0, Some(10));
        check(4, Some(10));
        check(5, Some(11));
        check(9, Some(9));
        check(39, Some(9));
        check(40, Some(109));
        assert_eq!(line_of(&[0xff, 1, 21, 0], 3, true), Some(10));
        assert_eq!(line_of(&[0xff, 1], 3, true), None);
        assert_eq!(line_of(&[], 0, false), None);
    }
}
