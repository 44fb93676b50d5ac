//! [`prefetch`]: has memory fetched into the cache that is about to be used.

#![allow(unsafe_code)]

/// What comes at a time, in bytes.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has all of a value fetched at once, instead of a line at a time where each is used.
#[inline]
pub(super) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(value) + LINE - 1).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::from_ref(value).cast::<i8>().wrapping_add(at);
        // SAFETY: a prefetch reads nothing, and no address is wrong for it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
}
