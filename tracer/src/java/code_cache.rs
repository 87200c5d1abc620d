//! How HotSpot keeps its compiled code: heaps of pieces (`CodeBlob`), found by address.

use std::ops::Range;

use crate::java::vm_structs::VmStructs;
use crate::native::memory::Memory;

/// How HotSpot keeps its compiled code.
pub(super) struct CodeCache {
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
    /// Its address.
    pub(crate) at: u64,
    /// `nmethod` for a compiled method.
    pub(crate) name: String,
    /// Bytes of its frame, return address and saved frame pointer included; 0 where it has none of fixed
    /// size.
    pub(crate) frame: u64,
    /// The `Method*` that was compiled.
    pub(crate) method: Option<u64>,
}

impl CodeCache {
    pub(super) fn describe(structs: &VmStructs) -> Result<Self, String> {
        let (heaps, array) = match structs.field("CodeCache", "_heaps") {
            Ok(heaps) => {
                let array = ["GrowableArrayBase", "GenericGrowableArray"];
                let length = structs.field_of(&array, "_len")?;
                (heaps, Some((length, structs.field("GrowableArray<int>", "_data")?)))
            }
            // JDK 8.
            Err(_) => (structs.field("CodeCache", "_heap")?, None),
        };
        Ok(CodeCache {
            heaps,
            array,
            memory: structs.field("CodeHeap", "_memory")?,
            segmap: structs.field("CodeHeap", "_segmap")?,
            log2: structs.field("CodeHeap", "_log2_segment_size")?,
            low: structs.field("VirtualSpace", "_low")?,
            high: structs.field("VirtualSpace", "_high")?,
            boundary: structs.field("VirtualSpace", "_high_boundary")?,
            header: structs.size("HeapBlock")?,
            frame_size: structs.field("CodeBlob", "_frame_size")?,
            name: structs.field("CodeBlob", "_name")?,
            method: structs.field_of(&["CompiledMethod", "nmethod"], "_method")?,
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

    /// From the first address of any heap to the last that one may grow to.
    pub(super) fn range(&self, memory: &Memory) -> Option<Range<u64>> {
        let heaps = self.heaps(memory);
        let start = heaps.iter().map(|heap| heap.low).min()?;
        Some(start..heaps.iter().map(|heap| heap.limit).max()?)
    }

    /// The piece that holds this address.
    pub(super) fn blob(&self, memory: &Memory, address: u64) -> Option<Blob> {
        let heaps = self.heaps(memory);
        let heap = heaps.iter().find(|heap| (heap.low..heap.high).contains(&address))?;
        self.blob_in(memory, heap, address)
    }

    /// `CodeHeap::find_start`: a byte for each segment says how far back its piece begins.
    fn blob_in(&self, memory: &Memory, heap: &Heap, address: u64) -> Option<Blob> {
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
        Some(Blob {
            at: blob,
            name,
            frame: 8 * u64::from(if words < 1 << 16 { words } else { 0 }),
            method,
        })
    }
}
