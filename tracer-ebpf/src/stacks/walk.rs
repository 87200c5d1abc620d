//! The walk along frame pointers, and what user space needs to read HotSpot's frames.
//!
//! x86-64 and aarch64 alike have the caller's frame pointer where a frame pointer points to, and the
//! return address in the word above. The kernel's own walker (`bpf_get_stack`) takes return
//! addresses only; a frame of HotSpot's interpreter has the same few for whatever method it runs, and
//! says which in the words below its frame pointer.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs,
};
use tracer_common::stack::{
    CodeRange, LARGE_FRAME, LARGE_FRAME_MORE, MOST_FRAMES, RawFrame, StackMemory, StackRecord,
    TOP_WORDS, flags,
};

use crate::layout::{Kernel, load_at};
use crate::maps::{INTERPRETERS, set};
use crate::task::Thread;
use crate::word::kernel_word;

/// Words below the frame pointer that are read with it.
const BELOW: usize = 9;
/// No frame is larger than this; a frame pointer that leads further is something else.
const LARGEST_FRAME: u64 = 1 << 20;
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// Until user space knows the process, everything is taken, and every word counts.
const EVERYTHING: CodeRange =
    CodeRange { start: 0, end: u64::MAX, code_start: 0, code_end: u64::MAX, memory: 1 };

/// The user's registers when it entered the kernel: instruction, stack and frame pointer.
#[inline(always)]
fn registers(task: u64) -> [u64; 3] {
    if set!(regs_helper) != 0 {
        // SAFETY: a trusted pointer to the current task; the helper returns one to its registers.
        let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Kernel;
        // SAFETY: offsets of fields of `struct pt_regs`.
        return unsafe {
            [
                load_at(regs, set!(regs_ip)),
                load_at(regs, set!(regs_sp)),
                load_at(regs, set!(regs_fp)),
            ]
        };
    }
    // task_pt_regs: they stand at the end of its stack.
    let regs = kernel_word(task, set!(task_stack)) + u64::from(set!(stack_regs));
    [
        kernel_word(regs, set!(regs_ip)),
        kernel_word(regs, set!(regs_sp)),
        kernel_word(regs, set!(regs_fp)),
    ]
}

/// The link register of the user's code when it entered the kernel: where the innermost function returns to, if it
/// has no frame of its own. Zero where there is no such register.
#[inline(always)]
fn link(task: u64) -> u64 {
    let offset = set!(regs_link);
    if offset == 0 {
        return 0;
    }
    if set!(regs_helper) != 0 {
        // SAFETY: a trusted pointer to the current task; the helper returns one to its registers.
        let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Kernel;
        // SAFETY: the offset of a field of `struct pt_regs`.
        return unsafe { load_at(regs, offset) };
    }
    kernel_word(kernel_word(task, set!(task_stack)) + u64::from(set!(stack_regs)), offset)
}

/// Words that tell one stack from another where frame pointers do not.
const TELLING: usize = 512;
/// Words that are looked at together.
const GROUP: usize = 8;
/// The smallest page there is: on larger ones pieces of this size serve as well.
const PAGE: u64 = 4096;

/// Takes the stack of the current thread. Fills in all but what `emit` does. Returns whether its memory is
/// wanted, of which the first words are read by then.
///
/// # Safety
/// `record` is ours to write.
#[inline(always)]
pub unsafe fn walk(memory: *mut StackMemory, thread: &Thread) -> bool {
    // SAFETY: the memory is ours.
    let record: *mut StackRecord = unsafe { &raw mut (*memory).record };
    let [mut ip, sp, mut fp] = registers(thread.task);
    // SAFETY: nobody changes the range under way; a stale one does no harm.
    let range = unsafe { INTERPRETERS.get(thread.pid) }.copied();
    let mut bits = if range.is_some() { 0 } else { flags::UNKNOWN_PROCESS };
    let range = range.unwrap_or(EVERYTHING);

    // SAFETY: the record is ours.
    unsafe { begin(record, sp, fp) };
    let mut hash = u64::from(thread.pid).wrapping_mul(PRIME);
    let (link, mut floor, mut count) = (link(thread.task), sp, 0);
    while count < MOST_FRAMES {
        // Not cleared before: that would be a call of a loop over bytes.
        let mut words = MaybeUninit::<Words>::uninit();
        let sound = fp >= floor && fp - floor < LARGEST_FRAME && fp & 7 == 0;
        let read = sound && read_frame(fp, &mut words);
        let mut frame = RawFrame { ip, method: 0, bytecode: 0 };
        if read && ip >= range.start && ip < range.end {
            // SAFETY: they were read.
            interpreted(&mut frame, unsafe { words.assume_init_ref() });
        }
        // SAFETY: the record is ours, and `count` within it.
        unsafe { (*record).frames[count] = frame };
        hash = mix(mix(mix(hash, frame.ip), frame.method), frame.bytecode);
        count += 1;
        if count == 1 && link != 0 {
            // SAFETY: the record is ours.
            unsafe { return_to(record, link) };
            (hash, count, bits) = (mix(hash, link), 2, bits | flags::LINK);
        }
        if !read {
            // The outermost frame has none (the ABI's zero).
            bits |= if fp != 0 { flags::BROKEN } else { 0 };
            break;
        }
        // SAFETY: they were read.
        let words = unsafe { words.assume_init_ref() };
        (floor, ip, fp) = (fp + 16, words[BELOW + 1], words[BELOW]);
        if ip == 0 {
            break;
        }
        if count == MOST_FRAMES {
            bits |= flags::DEEPER;
        }
    }
    if range.memory != 0 {
        // SAFETY: the memory is ours, and has the words at the top.
        hash = unsafe { hash_of_memory(memory, sp, range, hash) };
    }
    // SAFETY: the record is ours.
    unsafe {
        (*record).head.hash = hash;
        (*record).head.flags = bits;
        (*record).head.frames = count as u16;
    }
    range.memory != 0
}

/// What a frame of HotSpot's interpreter says: its method, and where it is in it.
#[inline(always)]
fn interpreted(frame: &mut RawFrame, words: &Words) {
    let bytecode = if is_arm64() { words[BELOW - 9] } else { words[BELOW - 8] };
    (frame.method, frame.bytecode) = (words[BELOW - 3], bytecode);
}

/// Only there a function returns by a register. HotSpot's interpreter keeps its bytecode pointer nine words below the frame
/// pointer there, not eight (`interpreter_frame_bcp_offset`): its frames have a word more, so that they are aligned.
#[inline(always)]
fn is_arm64() -> bool {
    set!(regs_link) != 0
}

/// The second frame: where the innermost function returns to by the link register.
///
/// # Safety
/// `record` is ours to write.
#[inline(always)]
unsafe fn return_to(record: *mut StackRecord, link: u64) {
    // SAFETY: the record is ours.
    unsafe { (*record).frames[1] = RawFrame { ip: link, method: 0, bytecode: 0 } };
}

/// Where memory is to be taken from: the stack pointer, or where the frame pointer of a large frame points to. What it
/// calls saves that near the top (the C library uses the register for something else), and it returns to a method.
///
/// # Safety
/// `record` is ours, and has the words at the top.
#[inline(always)]
unsafe fn behind_large_frame(record: *const StackRecord, sp: u64, range: CodeRange) -> u64 {
    let mut at = 0;
    while at < TOP_WORDS {
        // SAFETY: as promised.
        let word = unsafe { (*record).top[at] };
        let is_there = word.wrapping_sub(sp).wrapping_sub(LARGE_FRAME) < LARGE_FRAME_MORE;
        if is_there && word & 7 == 0 && returns_to_method(word, range) {
            return word;
        }
        at += 1;
    }
    sp
}

/// Whether this is the frame pointer of native code that a Java method has called.
#[inline(always)]
fn returns_to_method(fp: u64, range: CodeRange) -> bool {
    let mut words = MaybeUninit::<Words>::uninit();
    if !read_frame(fp, &mut words) {
        return false;
    }
    // SAFETY: they were read.
    let words = unsafe { words.assume_init_ref() };
    let caller = words[BELOW + 1];
    let is_compiled = caller.wrapping_sub(range.code_start) < range.code_end - range.code_start;
    let is_interpreted = caller.wrapping_sub(range.start) < range.end - range.start;
    (is_compiled || is_interpreted) && words[BELOW] > fp
}

/// Reads the first words from an address of the stack, and adds what tells one stack from another where frame pointers do
/// not.
///
/// # Safety
/// `memory` is ours to write.
#[inline(always)]
unsafe fn hash_of_memory(
    memory: *mut StackMemory,
    sp: u64,
    range: CodeRange,
    mut hash: u64,
) -> u64 {
    // SAFETY: as promised.
    let begin = unsafe { behind_large_frame(&raw const (*memory).record, sp, range) };
    // The same few frames for whoever calls: return addresses into compiled code tell them apart.
    let length = (range.code_end - range.code_start).min(MOST);
    // Unless the process is not known: then every word counts anyway.
    let interpreter = if range.start == 0 { 0 } else { range.end - range.start };
    // SAFETY: the memory is ours, and `at` within it.
    unsafe {
        (*memory).record.head.far = (begin - sp) as u32;
        read_first(memory, begin);
        // In groups, and without a branch for each word: the verifier keeps a state at every branch of every turn, and
        // compares each with all before it.
        let mut at = 0;
        while at < TELLING {
            let word = |of: usize| (*memory).words[at + of];
            let mut any = 0;
            let mut of = 0;
            while of < GROUP {
                hash =
                    mix(hash, word(of) & mask_of(word(of).wrapping_sub(range.code_start), length));
                any |= mask_of(word(of).wrapping_sub(range.start), interpreter);
                of += 1;
            }
            if any != 0 {
                // Whatever method the interpreter runs, it is returned to at the same few addresses.
                // The word below has its frame pointer.
                let mut of = 0;
                while of < GROUP {
                    let fp = (*memory).words[(at + of).wrapping_sub(1) & (TELLING - 1)];
                    let is_return = mask_of(word(of).wrapping_sub(range.start), interpreter);
                    hash = mix(hash, running(memory, begin, fp) & is_return);
                    of += 1;
                }
            }
            at += GROUP;
        }
    }
    hash
}

/// Where the stack begins, and the words at its top.
///
/// # Safety
/// `record` is ours to write.
#[inline(always)]
unsafe fn begin(record: *mut StackRecord, sp: u64, fp: u64) {
    // SAFETY: the record is ours; the helper checks the user's address, and writes zeroes where it cannot be
    // read.
    unsafe {
        (*record).sp = sp;
        (*record).fp = fp;
        (*record).head.far = 0;
        let top = (&raw mut (*record).top).cast::<c_void>();
        bpf_probe_read_user(top, (8 * TOP_WORDS) as u32, sp as *const c_void);
    }
}

/// From nine words below the frame pointer to the return address above it.
type Words = [u64; BELOW + 2];

/// Reads the words around a frame pointer. False where there are none.
#[inline(always)]
fn read_frame(fp: u64, words: &mut MaybeUninit<Words>) -> bool {
    let from = (fp - 8 * BELOW as u64) as *const c_void;
    // SAFETY: the words are ours; the helper checks the user's address.
    unsafe { bpf_probe_read_user(words.as_mut_ptr().cast(), size_of::<Words>() as u32, from) == 0 }
}

/// A hash that one more word is taken into.
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(PRIME)
}

/// Largest limit of `mask_of`.
const MOST: u64 = i64::MAX as u64;

/// All bits where `value` is below `limit`, which is at most `MOST`; else none. Without a branch.
#[inline(always)]
fn mask_of(value: u64, limit: u64) -> u64 {
    ((value.wrapping_sub(limit) & !value) as i64 >> 63) as u64
}

/// What an interpreted frame runs, as far as it tells one stack from another: method and bytecode. Nothing where
/// the words are not those of a frame: they may be left over from one that is gone.
///
/// # Safety
/// `memory` is ours, its first `TELLING` words were read.
#[inline(always)]
unsafe fn running(memory: *const StackMemory, begin: u64, fp: u64) -> u64 {
    let at = (fp.wrapping_sub(begin) >> 3) as usize;
    // SAFETY: as promised; all are below `TELLING`.
    unsafe {
        let word = |below: usize| (*memory).words[at.wrapping_sub(below) & (TELLING - 1)];
        // Where its caller's stack ends (`interpreter_frame_sender_sp_offset`): above it.
        let above = word(1).wrapping_sub(fp);
        let is_near = mask_of(above.wrapping_sub(1), LARGEST_FRAME - 1);
        let is_word = mask_of(fp & 7, 1);
        let sound = mask_of(at as u64, TELLING as u64) & is_word & is_near;
        let bytecode = if is_arm64() { word(9) } else { word(8) };
        (word(3) ^ bytecode.rotate_left(32)) & sound
    }
}

/// Reads what `walk` left.
///
/// # Safety
/// `memory` is ours to write, and `walk` has filled its record in.
#[inline(always)]
pub unsafe fn read_rest(memory: *mut StackMemory) {
    // SAFETY: as promised.
    unsafe {
        let begin = (*memory).record.sp + u64::from((*memory).record.head.far);
        let first = to_next_page(begin);
        read_words(memory, begin, first + PAGE, PAGE);
        read_words(memory, begin, first + 2 * PAGE, PAGE);
        read_words(memory, begin, first + 3 * PAGE, PAGE);
    }
}

/// Page by page: the end of the stack may be near, and of a piece that reaches beyond nothing is read.
///
/// # Safety
/// `memory` is ours to write.
#[inline(always)]
unsafe fn read_first(memory: *mut StackMemory, begin: u64) {
    let first = to_next_page(begin);
    // SAFETY: as promised.
    unsafe {
        read_words(memory, begin, 0, first);
        read_words(memory, begin, first, PAGE);
    }
}

/// Bytes, 8 to 4096.
#[inline(always)]
fn to_next_page(begin: u64) -> u64 {
    PAGE - (begin & (PAGE - 1) & !7)
}

/// # Safety
/// `memory` is ours to write, and has room for that.
#[inline(always)]
unsafe fn read_words(memory: *mut StackMemory, begin: u64, at: u64, bytes: u64) {
    // SAFETY: the piece is within the memory; the helper checks the user's address, and leaves zeroes
    // where it cannot be read.
    unsafe {
        let to = (&raw mut (*memory).words).cast::<u8>().add(at as usize);
        bpf_probe_read_user(to.cast::<c_void>(), bytes as u32, (begin + at) as *const c_void);
    }
}
