//! [`Windows`]: memory for what is on its way, lent to connections by the page. Each gets room for a
//! full window in each direction, of which only what it has ever filled is real memory; a connection
//! at rest gives that back.
//!
//! smoltcp's buffers cannot grow or move, so their addresses are reserved in full. No two windows
//! share a page of a page table, so that Linux (since 6.14) takes that back as well.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// So many windows are reserved at a time: a process may have some ten thousand mappings.
const AT_A_TIME: usize = 256;
/// What a page of a page table maps (x86-64). Each window has its own.
const TABLE: usize = 2 << 20;
/// Windows begin a page and a cache line further on than the last, of so many: else the first bytes
/// of all of them, which are used most, would compete for the same few entries of TLB and cache.
const COLOURS: usize = 128;
const COLOUR: usize = (4 << 10) + 64;
/// The most free windows that keep their memory.
const WARM: usize = 64;

/// Where windows come from and go back to.
#[derive(Debug)]
pub(super) struct Windows {
    /// The length of one, in bytes.
    len: usize,
    /// Without memory.
    free: Vec<Window>,
    /// Used lately.
    warm: Vec<Window>,
}

/// Room for `len` bytes, of zeros or of what was written there last.
#[derive(Debug)]
pub(super) struct Window {
    /// What is its own: a whole number of tables.
    reserved: *mut u8,
    reserved_len: usize,
    colour: usize,
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
            len,
            free: Vec::new(),
            warm: Vec::new(),
        }
    }

    /// A window, rather one that is still in the cache.
    pub(super) fn take(&mut self) -> io::Result<Window> {
        if let Some(window) = self.warm.pop().or_else(|| self.free.pop()) {
            return Ok(window);
        }
        let reserved_len = (self.len + COLOURS * COLOUR).next_multiple_of(TABLE);
        let mapping = Arc::new(Mapping::new(reserved_len * AT_A_TIME + TABLE)?);
        let start = mapping.start.cast::<u8>();
        let first = start.align_offset(TABLE);
        for number in (0..AT_A_TIME).rev() {
            self.free.push(Window {
                // SAFETY: it stays within the mapping, which has a table to spare.
                reserved: unsafe { start.add(first + number * reserved_len) },
                reserved_len,
                colour: number % COLOURS * COLOUR,
                len: self.len,
                _mapping: Arc::clone(&mapping),
            });
        }
        Ok(self.free.pop().expect("just filled"))
    }

    /// Takes a window back.
    pub(super) fn give(&mut self, mut window: Window) {
        if self.warm.len() < WARM {
            self.warm.push(window);
        } else {
            window.release();
            self.free.push(window);
        }
    }
}

impl Window {
    /// The memory, as smoltcp wants it.
    ///
    /// # Safety
    /// It must be out of use before the window is given back or dropped, and there must be no other.
    pub(super) unsafe fn memory(&mut self) -> &'static mut [u8] {
        // SAFETY: what is reserved has room for the colour and the length.
        let start = unsafe { self.reserved.add(self.colour) };
        // SAFETY: the mapping is readable, writable and at least so long, and the caller promises
        // that it outlives the slice, and that nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }

    /// Where its halves begin.
    pub(super) fn halves(&self) -> [*const u8; 2] {
        let start = self.reserved.wrapping_add(self.colour);
        [start, start.wrapping_add(self.len / 2)]
    }

    /// Gives the memory back to the system, but for its addresses. Nothing of what is in there may
    /// matter to anybody: it may be zeros afterwards.
    pub(super) fn release(&mut self) {
        let (start, len) = (self.reserved.cast(), self.reserved_len);
        // SAFETY: the range is our own, within our mapping, and plain bytes may be zeros as well.
        let released = unsafe { rustix::mm::madvise(start, len, Advice::LinuxDontNeed) };
        debug_assert!(released.is_ok(), "{released:?}");
    }
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses where, so that nothing else is there.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, flags) };
        let mapping = Self { start: start?, len };
        // A huge page for a connection would be most of the memory that there is. A kernel that has
        // none does not know the advice.
        // SAFETY: nothing is there yet.
        let _ = unsafe { rustix::mm::madvise(mapping.start, len, Advice::LinuxNoHugepage) };
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and the last window in it is gone.
        let unmapped = unsafe { rustix::mm::munmap(self.start, self.len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
