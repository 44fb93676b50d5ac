//! [`Windows`]: memory for what is on its way, lent to connections by the page. Each gets room for a
//! full window in each direction, of which only what it has ever filled is real memory; a connection
//! at rest gives that back.
//!
//! smoltcp's buffers cannot grow or move, so their addresses are reserved in full.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// So many windows are reserved at a time: a process may have some ten thousand mappings.
const AT_A_TIME: usize = 256;
/// Sizes are rounded up to pages, so that nobody gives back his neighbour's memory.
const PAGE: usize = 4 << 10;

/// Where windows come from and go back to.
#[derive(Debug)]
pub(super) struct Windows {
    /// The length of one, in bytes.
    len: usize,
    free: Vec<Window>,
}

/// Room for `len` bytes, of zeros or of what was written there last.
#[derive(Debug)]
pub(super) struct Window {
    start: *mut u8,
    len: usize,
    /// Kept mapped as long as there is a window in it.
    _mapping: Arc<Mapping>,
}

// SAFETY: a window is the only owner of its memory, like a `Box<[u8]>`.
unsafe impl Send for Window {}

#[derive(Debug)]
struct Mapping {
    start: *mut c_void,
    len: usize,
}

// SAFETY: it is only an address; what is there belongs to the windows.
unsafe impl Send for Mapping {}
// SAFETY: nothing can be done with a shared one.
unsafe impl Sync for Mapping {}

impl Windows {
    pub(super) fn new(len: usize) -> Self {
        Self {
            len: len.next_multiple_of(PAGE),
            free: Vec::new(),
        }
    }

    /// A window.
    pub(super) fn take(&mut self) -> io::Result<Window> {
        if let Some(window) = self.free.pop() {
            return Ok(window);
        }
        let mapping = Arc::new(Mapping::new(self.len * AT_A_TIME)?);
        for number in (0..AT_A_TIME).rev() {
            self.free.push(Window {
                // SAFETY: it stays within the mapping.
                start: unsafe { mapping.start.cast::<u8>().add(number * self.len) },
                len: self.len,
                _mapping: Arc::clone(&mapping),
            });
        }
        Ok(self.free.pop().expect("just filled"))
    }

    /// Takes a window back. The next connection gets the last one, which is still in the cache.
    pub(super) fn give(&mut self, window: Window) {
        self.free.push(window);
    }
}

impl Window {
    /// The memory, as smoltcp wants it.
    ///
    /// # Safety
    /// It must be out of use before the window is given back or dropped, and there must be no other.
    pub(super) unsafe fn memory(&mut self) -> &'static mut [u8] {
        // SAFETY: the mapping is readable, writable and at least so long, and the caller promises
        // that it outlives the slice, and that nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Gives the memory back to the system, but for its addresses. Nothing of what is in there may
    /// matter to anybody: it may be zeros afterwards.
    pub(super) fn release(&mut self) {
        // SAFETY: the range is within our mapping, and plain bytes may be zeros as well.
        let released =
            unsafe { rustix::mm::madvise(self.start.cast(), self.len, Advice::LinuxDontNeed) };
        debug_assert!(released.is_ok(), "{released:?}");
    }
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses where, so that nothing else is there.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, flags) };
        Ok(Self { start: start?, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and the last window in it is gone.
        let unmapped = unsafe { rustix::mm::munmap(self.start, self.len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
