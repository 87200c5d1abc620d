//! Reads kernel fields at offsets that are globals: for the verifier known constants, so that a
//! load through a typed pointer (`PTR_TO_BTF_ID`) passes as if the offset had been compiled in.

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

/// `load!(socket, field)`: the field of `LAYOUT` with that name, typed by where it is used.
macro_rules! load {
    ($base:expr, $field:ident) => {{
        let (base, offset) = ($base, $crate::maps::global!(LAYOUT.$field));
        // SAFETY: the loader takes `$field` from the BTF of the running kernel, and has checked
        // its size; the base is a pointer the verifier knows.
        unsafe { $crate::layout::load_at(base, offset) }
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
