//! Reads kernel fields at offsets that the loader finds in the kernel's BTF and puts into the instructions, so that a load
//! through a typed pointer (`PTR_TO_BTF_ID`) passes as if the offset had been compiled in.

use core::ffi::c_void;

/// A kernel struct behind a pointer the verifier knows the type of.
pub type Kernel = *const c_void;

/// Loads a field of `base`.
///
/// # Safety
/// `base` is a typed, trusted pointer of the verifier and `offset` a field of its struct with the
/// size of `T`. A wrong offset is refused at load time; a stale pointer reads zeroes.
#[inline(always)]
pub unsafe fn load_at<T: Copy>(base: Kernel, offset: u32) -> T {
    // SAFETY: passed on to the caller; volatile keeps each load a single access of its field.
    unsafe { core::ptr::read_volatile(base.byte_add(offset as usize).cast::<T>()) }
}

/// `load!(socket, field)`: the field of `LAYOUT` with that name, typed by where it is used; `load!(task, field, 8)` what
/// is eight bytes behind.
///
/// The instruction has a place instead of the offset (`Layout::place`), and the loader puts the offset there: one
/// instruction, where adding an offset out of a map takes six. Programs run with their code cold.
macro_rules! load {
    ($base:expr, $field:ident) => {
        load!($base, $field, 0)
    };
    ($base:expr, $field:ident, $behind:literal) => {{
        const PLACE: u32 = tracer_common::globals::Layout::place(core::mem::offset_of!(
            tracer_common::globals::Layout,
            $field
        ));
        const _: () = assert!($behind < tracer_common::globals::Layout::STEP);
        let base = $base;
        // SAFETY: the loader takes `$field` from the BTF of the running kernel, and has checked
        // its size; the base is a pointer the verifier knows.
        unsafe { $crate::layout::load_at(base, PLACE + $behind) }
    }};
}
pub(crate) use load;

/// `has!(field)`: whether this kernel has the field; the verifier removes the branch if not.
macro_rules! has {
    ($field:ident) => {
        $crate::maps::global!(LAYOUT.$field) != 0
    };
}
pub(crate) use has;
