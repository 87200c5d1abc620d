//! The flags that a JVM was started with, as far as they matter here.

use std::collections::HashMap;

use crate::java::vm_structs::VmStructs;
use crate::native::memory::Memory;

/// Flags that are looked at; JDK 25 has 1,400.
const MOST_FLAGS: u64 = 8_192;
const WANTED: [&str; 2] = ["PreserveFramePointer", "DisableAttachMechanism"];

/// Those of the wanted flags that this JVM has.
pub(super) fn read(memory: &Memory, structs: &VmStructs) -> HashMap<String, bool> {
    // JDK 8 to 9 call the type `Flag`.
    let of = |class: &str| -> Option<HashMap<String, bool>> {
        let table = memory.u64(structs.field(class, "flags").ok()?)?;
        let count = memory.u64(structs.field(class, "numFlags").ok()?)?.min(MOST_FLAGS);
        let name = structs.field(class, "_name").ok()?;
        let address = structs.field(class, "_addr").ok()?;
        let stride = structs.size(class).ok()?;
        let mut flags = HashMap::new();
        for index in 0..count {
            let entry = table.wrapping_add(index.wrapping_mul(stride));
            let Some(text) = memory.u64(entry.wrapping_add(name)).and_then(|at| memory.string(at))
            else {
                continue;
            };
            if WANTED.contains(&text.as_str()) {
                let value = memory.u64(entry.wrapping_add(address)).and_then(|at| memory.u8(at));
                flags.insert(text, value? != 0);
            }
        }
        Some(flags)
    };
    of("JVMFlag").or_else(|| of("Flag")).unwrap_or_default()
}
