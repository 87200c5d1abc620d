//! Puts what the loader knows into the instructions, before the kernel sees the programs: the offsets of the fields that
//! they load, and the values of globals.
//!
//! For an offset the object has a place ([`Layout::place`]). The values of read-only globals the verifier knows, too, and
//! removes the branches that they switch off, but it leaves the loads (`check_mem_access`, `bpf_map_direct_read`), from
//! memory that is seldom in a cache. One that is not recognized here stays: it is slower, and says the same.

use std::collections::HashSet;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};
use thiserror::Error;
use tracer_common::globals::Layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A global: its symbol, and its value.
pub(super) type Global<'a> = (&'a str, &'a [u8]);

/// A field that is too far from the beginning of its struct for an instruction, which has 16 bits for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a field of the kernel's is {0} bytes into its struct")]
pub struct TooFar(u32);

/// An object of programs, as aligned as a file has to be that is read in place.
pub(super) struct Code {
    words: Vec<u64>,
    length: usize,
}

impl Code {
    fn of(object: &[u8]) -> Code {
        let mut words = vec![0_u64; object.len().div_ceil(8)];
        for (to, from) in words.as_mut_bytes().iter_mut().zip(object) {
            *to = *from;
        }
        Code { words, length: object.len() }
    }

    /// The bytes of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        let bytes = self.words.as_bytes();
        bytes.get(..self.length).unwrap_or(bytes)
    }
}

/// A copy of `object` in which fields are loaded at the offsets of `layout`, and loads of the `globals` are constants.
///
/// # Errors
/// When an offset does not fit.
pub(super) fn put_in(
    object: &[u8],
    layout: &Layout,
    globals: &[Global<'_>],
) -> Result<Code, TooFar> {
    let mut code = Code::of(object);
    // Of an object that cannot be read aya says so.
    let Ok(elf) = object::File::parse(object) else { return Ok(code) };
    for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
        let Some((start, length)) = section.file_range() else { continue };
        let range = start as usize..(start + length) as usize;
        let bytes = code.words.as_mut_bytes().get_mut(range);
        let Some(Ok(instructions)) = bytes.map(<[Instruction]>::mut_from_bytes) else { continue };
        for load in instructions.iter_mut().filter(|load| load.is_load()) {
            load.find_place(layout)?;
        }
        let targets = targets(instructions);
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let name = elf.symbol_by_index(symbol).and_then(|symbol| symbol.name());
            let global = globals.iter().find(|(global, _)| name == Ok(global));
            if let Some((_, value)) = global {
                follow(instructions, offset as usize / size_of::<Instruction>(), value, &targets);
            }
        }
    }
    Ok(code)
}

/// `struct bpf_insn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Classes of instructions, the low three bits of the code (`BPF_CLASS`).
const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const JMP: u8 = 5;
const JMP32: u8 = 6;
/// `BPF_MEM`, `BPF_ATOMIC`: the high three bits of loads and stores.
const MODE: u8 = 0xe0;
const MEM: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
/// The high four bits of jumps.
const OPERATION: u8 = 0xf0;
const JA: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// `BPF_LD | BPF_IMM | BPF_DW`: takes the place of two.
const LOAD_ADDRESS: u8 = 0x18;
/// `BPF_ALU | BPF_MOV | BPF_K`, which clears the upper half, and `BPF_ALU64 | BPF_MOV | BPF_K`.
const MOVE_32: u8 = 0xb4;
const MOVE_64: u8 = 0xb7;
/// Calls leave nothing in these: `BPF_REG_0` to `BPF_REG_5`.
const CLOBBERED: u8 = 5;

impl Instruction {
    fn class(self) -> u8 {
        self.code & 0x07
    }

    fn is_jump(self) -> bool {
        matches!(self.class(), JMP | JMP32)
    }

    fn destination(self) -> u8 {
        self.registers & 0x0f
    }

    fn source(self) -> u8 {
        self.registers >> 4
    }

    fn is_load(self) -> bool {
        self.class() == LDX && self.code & MODE == MEM
    }

    /// Puts the offset of a field in the place of its place.
    fn find_place(&mut self, layout: &Layout) -> Result<(), TooFar> {
        let at =
            usize::try_from(self.offset).ok().and_then(|at| at.checked_sub(Layout::FIRST_PLACE));
        let Some(at) = at else { return Ok(()) };
        let (field, behind) = (at / Layout::STEP, at % Layout::STEP);
        let offset = layout.as_bytes().as_chunks().0.get(field).copied().map(u32::from_ne_bytes);
        let offset = offset.unwrap_or(u32::MAX).saturating_add(behind as u32);
        self.offset = offset.try_into().map_err(|_| TooFar(offset))?;
        Ok(())
    }

    /// Whether `register` has another value after it, as far as that is told in one look; true where it is not.
    fn changes(self, register: u8) -> bool {
        match self.class() {
            ST => false,
            STX => self.code & MODE == ATOMIC,
            JMP | JMP32 => self.code & OPERATION == CALL && register <= CLOBBERED,
            _ => self.destination() == register,
        }
    }

    /// Whether what follows it in the code does not follow it in time.
    fn ends_here(self) -> bool {
        self.is_jump() && matches!(self.code & OPERATION, JA | EXIT)
    }

    /// The same register set to what this loads, where it loads from a global at the address in `register`.
    fn as_constant(self, register: u8, global: &[u8], start: usize) -> Option<Instruction> {
        if !self.is_load() || self.source() != register {
            return None;
        }
        let at = start.checked_add_signed(self.offset.into())?;
        let bytes = global.get(at..)?;
        let (code, immediate) = match self.code & 0x18 {
            // BPF_W, BPF_H, BPF_B, BPF_DW
            0x00 => (MOVE_32, i32::from_ne_bytes(*bytes.first_chunk()?)),
            0x08 => (MOVE_32, u16::from_ne_bytes(*bytes.first_chunk()?).into()),
            0x10 => (MOVE_32, (*bytes.first()?).into()),
            // Of 64 bits an immediate has 31.
            _ => (MOVE_64, u64::from_ne_bytes(*bytes.first_chunk()?).try_into().ok()?),
        };
        Some(Instruction { code, registers: self.destination(), offset: 0, immediate })
    }
}

/// Where jumps lead: there a register may have come from elsewhere.
fn targets(instructions: &[Instruction]) -> HashSet<usize> {
    let mut targets = HashSet::new();
    let mut at = 0;
    while let Some(&instruction) = instructions.get(at) {
        if instruction.is_jump() {
            // Of a long jump (`gotol`) and of a call within the object the immediate says how far.
            let long = matches!(
                (instruction.class(), instruction.code & OPERATION),
                (JMP32, JA) | (_, CALL)
            );
            let far = if long { instruction.immediate as isize } else { instruction.offset.into() };
            targets.extend((at + 1).checked_add_signed(far));
        }
        at += if instruction.code == LOAD_ADDRESS { 2 } else { 1 };
    }
    targets
}

/// Follows the address that is loaded at `at` for as long as it is certain to be in its register, and makes constants of
/// what is loaded from there.
fn follow(instructions: &mut [Instruction], at: usize, global: &[u8], targets: &HashSet<usize>) {
    let Some(&load) = instructions.get(at).filter(|load| load.code == LOAD_ADDRESS) else { return };
    let (register, Ok(start)) = (load.destination(), usize::try_from(load.immediate)) else {
        return;
    };
    let mut next = at + 2;
    while let Some(instruction) = instructions.get_mut(next).filter(|_| !targets.contains(&next)) {
        let was = *instruction;
        if let Some(constant) = was.as_constant(register, global, start) {
            *instruction = constant;
        }
        if was.changes(register) || was.ends_here() {
            return;
        }
        next += if was.class() == LD && was.code == LOAD_ADDRESS { 2 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::loader::OBJECT;

    const ADD: u8 = 0x07;
    /// `if r1 == 0`.
    const JEQ: u8 = 0x15;

    fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction { code, registers: from << 4 | to, offset, immediate }
    }

    /// The address of byte `start` of the global into a register.
    fn address(to: u8, start: i32) -> [Instruction; 2] {
        [instruction(LOAD_ADDRESS, to, 0, 0, start), instruction(0, 0, 0, 0, 0)]
    }

    fn load(size: u8, to: u8, from: u8, offset: i16) -> Instruction {
        instruction(LDX | MEM | size, to, from, offset, 0)
    }

    fn constant(to: u8, value: i32) -> Instruction {
        instruction(MOVE_32, to, 0, 0, value)
    }

    /// What becomes of code that begins with the address of a global of bytes 0 to 31.
    fn check(code: &[Instruction], expect: &[Instruction]) {
        let global: Vec<u8> = (0..32).collect();
        let mut code = [&address(1, 0), code].concat();
        let targets = targets(&code);
        follow(&mut code, 0, &global, &targets);
        assert_eq!(code[2..], *expect);
    }

    #[test]
    fn loads_of_a_global_are_its_value() {
        let (word, half, byte, double) = (0x00, 0x08, 0x10, 0x18);
        check(&[load(word, 2, 1, 4)], &[constant(2, 0x0706_0504)]);
        check(
            &[load(half, 2, 1, 4), load(byte, 3, 1, 31)],
            &[constant(2, 0x0504), constant(3, 31)],
        );
        // More than an immediate has, and more than there is.
        check(&[load(double, 2, 1, 8)], &[load(double, 2, 1, 8)]);
        check(&[load(word, 2, 1, 30)], &[load(word, 2, 1, 30)]);
        check(&[load(word, 2, 1, -4)], &[load(word, 2, 1, -4)]);
        // From elsewhere, and of another kind.
        check(&[load(word, 2, 3, 4)], &[load(word, 2, 3, 4)]);
        let store = instruction(STX | MEM, 1, 2, 4, 0);
        check(&[store, load(byte, 2, 1, 1)], &[store, constant(2, 1)]);
    }

    #[test]
    fn an_address_counts_for_as_long_as_it_is_certain() {
        let byte = 0x10;
        let (seen, after) = (constant(3, 1), load(byte, 3, 1, 1));
        // The last one that it is needed for may take its register.
        check(&[load(byte, 1, 1, 1), after], &[constant(1, 1), after]);
        for ends in [
            instruction(ADD, 1, 0, 0, 8),
            address(1, 3)[0],
            instruction(JMP | CALL, 0, 0, 0, 5),
            instruction(JMP | EXIT, 0, 0, 0, 0),
            instruction(JMP | JA, 0, 0, 7, 0),
            instruction(JMP32 | JA, 0, 0, 0, 7),
            instruction(STX | ATOMIC, 1, 1, 0, 1),
        ] {
            check(&[ends, after], &[ends, after]);
        }
        for goes_on in [instruction(ADD, 2, 0, 0, 8), instruction(JEQ, 1, 0, 7, 0)] {
            check(&[goes_on, after], &[goes_on, seen]);
        }
        let other = address(2, 3);
        check(&[&other[..], &[after]].concat(), &[&other[..], &[seen]].concat());
        // Whoever jumps to it may come with another address.
        let back = instruction(JEQ, 4, 0, -2, 0);
        check(&[after, back], &[after, back]);
    }

    #[test]
    fn each_field_is_loaded_at_its_offset() {
        let layout = Layout { daddr: 3, dport: 500, ..Layout::default() };
        let check = |field: usize, behind: u32, expect| {
            let place = (Layout::place(field) + behind) as i16;
            let mut load = load(0, 2, 1, place);
            assert_eq!(load.find_place(&layout).map(|()| load.offset), expect);
        };
        check(0, 0, Ok(3));
        check(0, 8, Ok(11));
        check(std::mem::offset_of!(Layout, dport), 4, Ok(504));
        check(std::mem::offset_of!(Layout, num), 0, Ok(0));
        let far = Layout { daddr: 32_767, ..Layout::default() };
        assert_eq!(load(0, 2, 1, Layout::place(0) as i16).find_place(&far), Ok(()));
        assert_eq!(
            load(0, 2, 1, Layout::place(0) as i16 + 1).find_place(&far),
            Err(TooFar(32_768))
        );
    }

    /// Instructions of all programs of an object.
    fn all(object: &[u8]) -> Vec<Instruction> {
        let elf = object::File::parse(object).expect("an ELF file");
        let text = elf.sections().filter(|section| section.kind() == SectionKind::Text);
        let data = text.map(|section| section.data().expect("its bytes").to_vec());
        let code: Vec<u8> = data.flatten().collect();
        code.chunks(8).map(|it| Instruction::read_from_bytes(it).expect("eight bytes")).collect()
    }

    #[test]
    fn no_place_is_left_in_the_programs() {
        let places = Layout::FIRST_PLACE..Layout::FIRST_PLACE + Layout::FIELDS * Layout::STEP;
        let stands = |number: i32| usize::try_from(number).is_ok_and(|it| places.contains(&it));
        let count = |code: &[Instruction]| {
            code.iter().filter(|it| it.is_load() && stands(it.offset.into())).count()
        };
        let before = all(OBJECT);
        assert!(count(&before) > 300, "{}", count(&before));
        // The compiler adds none to an address: that would not be found.
        let adds = before.iter().filter(|it| matches!(it.code, 0x04 | 0x07));
        assert_eq!(adds.filter(|it| stands(it.immediate)).count(), 0);
        let layout = Layout { protocol: 500, ..Layout::default() };
        let globals = [("LAYOUT", layout.as_bytes())];
        let code = put_in(OBJECT, &layout, &globals).expect("it fits");
        let after = all(code.bytes());
        assert_eq!((count(&after), after.len()), (0, before.len()));
        // Most of what else is asked of the layout is a constant.
        let constants = |code: &[Instruction]| code.iter().filter(|it| it.code == MOVE_32).count();
        assert!(constants(&after) > constants(&before) + 100, "{}", constants(&after));
    }
}
