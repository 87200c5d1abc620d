//! The description of its own structs that `libjvm.so` exports for debuggers (`gHotSpotVMStructs`,
//! `vmStructs.cpp`): offsets of fields, addresses of static ones, sizes of types.

use std::collections::HashMap;

use object::{Object, ObjectSymbol, ReadCache};

use crate::native::memory::Memory;
use crate::native::process::{Mapping, Process};

/// Entries of a table that are looked at; JDK 25 has 1,600.
const MOST_ENTRIES: u64 = 16_384;

/// What a JVM says of its structs.
pub(super) struct VmStructs {
    /// A field's offset, or of a static field its address.
    fields: HashMap<(String, String), u64>,
    sizes: HashMap<String, u64>,
}

impl VmStructs {
    /// Reads the tables.
    ///
    /// # Errors
    /// A sentence why there are none.
    pub(super) fn read(
        memory: &Memory,
        process: &Process,
        library: &Mapping,
    ) -> Result<VmStructs, String> {
        let symbols = exported(process, library)?;
        let word = |name: &str| {
            let address =
                symbols.get(name).ok_or_else(|| format!("libjvm.so exports no {name}"))?;
            memory.u64(*address).ok_or_else(|| format!("{name} cannot be read"))
        };
        Ok(VmStructs { fields: fields(memory, &word)?, sizes: sizes(memory, &word)? })
    }

    /// Offset of a field, or address of a static one.
    ///
    /// # Errors
    /// When the JVM does not describe it.
    pub(super) fn field(&self, class: &str, field: &str) -> Result<u64, String> {
        self.fields
            .get(&(class.to_owned(), field.to_owned()))
            .copied()
            .ok_or_else(|| format!("this JVM does not describe {class}::{field}"))
    }

    /// Of the first of these classes that has the field: some changed their place.
    ///
    /// # Errors
    /// When none has it.
    pub(super) fn field_of(&self, classes: &[&str], field: &str) -> Result<u64, String> {
        let found = classes.iter().find_map(|class| self.field(class, field).ok());
        found.ok_or_else(|| format!("this JVM does not describe {}::{field}", classes.join(" or ")))
    }

    /// Size of a type, bytes.
    ///
    /// # Errors
    /// When the JVM does not describe it.
    pub(super) fn size(&self, class: &str) -> Result<u64, String> {
        let size = self.sizes.get(class).copied();
        size.ok_or_else(|| format!("this JVM does not describe {class}"))
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

fn fields(
    memory: &Memory,
    word: &dyn Fn(&str) -> Result<u64, String>,
) -> Result<HashMap<(String, String), u64>, String> {
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
    Ok(fields)
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
