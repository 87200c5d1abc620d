//! Follows a stack without frame pointers, in a copy of its memory.
//!
//! A compiled Java method has a frame of fixed size, which the code cache knows, and saves the frame pointer
//! it found beside the return address, though it does not set it. Frames of the interpreter have all they
//! need below their frame pointer; of native code the unwind tables tell.

use tracer_common::stack::RawFrame;

use crate::engine::book::Raw;
use crate::java::hotspot::HotSpot;
use crate::native::process::Process;
use crate::native::symbols::Native;

/// Where HotSpot's interpreter keeps its bytecode pointer, words below the frame pointer (`interpreter_frame_bcp_offset`).
const BYTECODE: u64 = if cfg!(target_arch = "aarch64") { 9 } else { 8 };
/// Most frames that are followed.
const MOST: usize = 512;

/// What the walk came to.
pub(crate) struct Walked {
    /// Innermost first; the method of compiled frames too.
    pub(crate) frames: Vec<RawFrame>,
    /// It reached the stub by which the JVM calls Java code, or ran out of tables in native code.
    pub(crate) whole: bool,
}

/// Follows the stack from its innermost frame.
pub(crate) fn unwind(
    process: &Process,
    jvm: Option<&HotSpot>,
    native: &mut Native,
    raw: &Raw,
    link: Option<u64>,
) -> Walked {
    let word = |address: u64| raw.word(address);
    let mut walked = Walked { frames: Vec::new(), whole: false };
    let Some(mut ip) = raw.frames.first().map(|frame| frame.ip) else { return walked };
    let (mut sp, mut fp) = (raw.sp, raw.fp);
    while walked.frames.len() < MOST && ip != 0 {
        let innermost = walked.frames.is_empty();
        // A return address may be the first of the next function.
        let lookup = if innermost { ip } else { ip - 1 };
        let mut frame = RawFrame { ip, method: 0, bytecode: 0 };
        walked.whole = false;
        let next = if jvm.is_some_and(|jvm| (jvm.code.start..jvm.code.end).contains(&lookup)) {
            frame.method = below(fp, 3).and_then(word).unwrap_or(0);
            frame.bytecode = below(fp, BYTECODE).and_then(word).unwrap_or(0);
            // The callee may have taken part of the frame for its arguments: the interpreter says where
            // its caller's stack ends.
            interpreted(fp, &word)
        } else if let Some(blob) = jvm.and_then(|jvm| jvm.blob(lookup)) {
            frame.method = blob.method.unwrap_or(0);
            if blob.name.starts_with("StubRoutines") {
                walked.whole = true;
                None
            } else {
                fixed(sp, blob.frame, &word)
            }
        } else {
            walked.whole = process.code_at(lookup).is_some();
            native.step(process, lookup, [sp, fp], link.filter(|_| innermost), &word)
        };
        walked.frames.push(frame);
        // One that returns by the link register has nothing on the stack.
        let goes_on = |next: &[u64; 3]| next[1] > sp || innermost && next[1] == sp;
        let Some([caller, above, saved]) = next.filter(goes_on) else { break };
        // The outermost function was called by nobody.
        let lookup = caller.wrapping_sub(1);
        if process.code_at(lookup).is_none() && !jvm.is_some_and(|jvm| jvm.is_compiled(lookup)) {
            break;
        }
        (ip, sp, fp) = (caller, above, saved);
    }
    walked
}

fn below(fp: u64, words: u64) -> Option<u64> {
    fp.checked_sub(8 * words)
}

fn interpreted(fp: u64, word: &dyn Fn(u64) -> Option<u64>) -> Option<[u64; 3]> {
    let sender = word(below(fp, 1)?)?;
    Some([word(fp.checked_add(8)?)?, sender, word(fp)?])
}

fn fixed(sp: u64, frame: u64, word: &dyn Fn(u64) -> Option<u64>) -> Option<[u64; 3]> {
    let above = sp.checked_add(frame).filter(|_| frame >= 16)?;
    Some([word(above - 8)?, above, word(above - 16)?])
}
