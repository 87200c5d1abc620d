//! A method's class, name and lines, from its `Method*`.

use crate::java::lines::{MOST_BYTES, line_of};
use crate::java::unsigned5::Encoding;
use crate::java::vm_structs::VmStructs;
use crate::native::memory::Memory;

/// Longest part of a name, bytes.
const LONGEST: u16 = 512;
/// `ConstMethodFlags`: a table of line numbers follows the bytecodes. The lowest bit in all versions.
const HAS_LINES: u32 = 1;

/// Where in a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Where the interpreter's bytecode pointer points to.
    Pointer(u64),
    /// At a bytecode, counted from the first.
    Bytecode(u32),
    /// Not known.
    Unknown,
}

/// Offsets of the fields that lead from a `Method*` to what people call it.
pub(super) struct Methods {
    const_method: u64,
    constants: u64,
    name_index: u64,
    code_size: u64,
    flags: u64,
    const_method_size: u64,
    pool_holder: u64,
    pool_size: u64,
    class_name: u64,
    class_constants: u64,
    symbol_length: u64,
    symbol_body: u64,
    encoding: Encoding,
}

impl Methods {
    pub(super) fn describe(structs: &VmStructs, version: u32) -> Result<Methods, String> {
        let body = |field: &str| structs.field("ConstMethod", field);
        Ok(Methods {
            const_method: structs.field("Method", "_constMethod")?,
            constants: body("_constants")?,
            name_index: body("_name_index")?,
            code_size: body("_code_size")?,
            flags: body("_flags").or_else(|_| body("_flags._flags"))?,
            const_method_size: structs.size("ConstMethod")?,
            pool_holder: structs.field("ConstantPool", "_pool_holder")?,
            pool_size: structs.size("ConstantPool")?,
            class_name: structs.field("Klass", "_name")?,
            class_constants: structs.field("InstanceKlass", "_constants")?,
            symbol_length: structs.field("Symbol", "_length")?,
            symbol_body: structs.field("Symbol", "_body")?,
            encoding: Encoding::of(version),
        })
    }

    /// The method at this address, as `java.net.Socket.connect`, and its line at this position. `None`
    /// where there is no method.
    pub(super) fn name(
        &self,
        memory: &Memory,
        method: u64,
        position: Position,
    ) -> Option<(String, Option<u32>)> {
        if method == 0 || !method.is_multiple_of(8) {
            return None;
        }
        let body = pointer(memory, method, self.const_method)?;
        let pool = pointer(memory, body, self.constants)?;
        let holder = pointer(memory, pool, self.pool_holder)?;
        // A circle that hardly anything but a method's closes.
        if pointer(memory, holder, self.class_constants)? != pool {
            return None;
        }
        let index = memory.u16(body.checked_add(self.name_index)?)?;
        let slot = pool.checked_add(self.pool_size)?.checked_add(8 * u64::from(index))?;
        let name = self.symbol(memory, memory.u64(slot)?)?;
        let class = self.symbol(memory, pointer(memory, holder, self.class_name)?)?;
        let line = self.line(memory, body, position);
        Some((format!("{}.{name}", class.replace('/', ".")), line))
    }

    fn symbol(&self, memory: &Memory, symbol: u64) -> Option<String> {
        let length = memory.u16(symbol.checked_add(self.symbol_length)?)?.min(LONGEST);
        let mut bytes = vec![0; usize::from(length)];
        let read = memory.read(symbol.checked_add(self.symbol_body)?, &mut bytes);
        (read && !bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn line(&self, memory: &Memory, body: u64, position: Position) -> Option<u32> {
        if memory.u32(body.checked_add(self.flags)?)? & HAS_LINES == 0 {
            return None;
        }
        let code = body.checked_add(self.const_method_size)?;
        let size = u64::from(memory.u16(body.checked_add(self.code_size)?)?);
        let index = match position {
            Position::Pointer(pointer) => pointer.checked_sub(code)?,
            Position::Bytecode(index) => u64::from(index),
            Position::Unknown => return None,
        };
        let index = u32::try_from(index).ok().filter(|&index| u64::from(index) < size)?;
        let table = code.checked_add(size)?;
        let mut bytes = vec![0; MOST_BYTES];
        // The end of the mapping may be nearer.
        while !memory.read(table, &mut bytes) {
            let half = bytes.len() / 2;
            if half < 8 {
                return None;
            }
            bytes.truncate(half);
        }
        line_of(&bytes, index, self.encoding)
    }
}

fn pointer(memory: &Memory, base: u64, offset: u64) -> Option<u64> {
    memory.u64(base.checked_add(offset)?).filter(|&word| word != 0 && word.is_multiple_of(8))
}
