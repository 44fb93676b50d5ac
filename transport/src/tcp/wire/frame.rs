//! [`WireFrame`], and where its memory comes from and goes to.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;
use crate::tcp::Frame;

/// So many buffers change hands at a time.
const BATCH: usize = 64;

/// Room for the longest frame of a wire.
pub(super) type Buffer = Box<[u8]>;

/// A frame that nobody holds: it waits, or is under way.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) buffer: Buffer,
    pub(super) len: usize,
}

impl Raw {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }
}

/// A frame of a [`Wire`](super::Wire).
#[derive(Debug)]
pub struct WireFrame {
    raw: Raw,
    home: Arc<Home>,
}

impl WireFrame {
    pub(super) fn into_raw(mut self) -> Raw {
        Raw {
            buffer: mem::take(&mut self.raw.buffer),
            len: self.raw.len,
        }
    }
}

impl Frame for WireFrame {}

impl Deref for WireFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.raw.bytes()
    }
}

impl DerefMut for WireFrame {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.raw.bytes_mut()
    }
}

impl Drop for WireFrame {
    fn drop(&mut self) {
        // It is empty if the frame was transmitted.
        if !self.raw.buffer.is_empty() {
            self.home.give(mem::take(&mut self.raw.buffer));
        }
    }
}

/// The free buffers of a wire.
#[derive(Debug)]
pub(super) struct Pool {
    /// The length of each buffer.
    len: usize,
    /// The most that are kept.
    keep: usize,
    free: Mutex<Vec<Buffer>>,
    made: AtomicU64,
}

impl Pool {
    pub(super) fn new(len: usize, keep: usize) -> Self {
        Self {
            len,
            keep,
            free: Mutex::default(),
            made: AtomicU64::new(0),
        }
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Moves some buffers to `list`, which is empty, or makes one.
    fn take(&self, list: &mut Vec<Buffer>) -> Buffer {
        let mut free = lock(&self.free);
        let rest = free.len().saturating_sub(BATCH);
        list.extend(free.drain(rest..));
        drop(free);
        list.pop().unwrap_or_else(|| {
            self.made.fetch_add(1, Ordering::Relaxed);
            vec![0; self.len].into()
        })
    }

    /// Takes buffers back: as many as are kept, the others are freed.
    fn give(&self, list: &mut Vec<Buffer>) {
        let mut free = lock(&self.free);
        let room = self.keep.saturating_sub(free.len());
        free.extend(list.drain(..room.min(list.len())));
        drop(free);
        list.clear();
    }
}

/// Where the frames that a port has handed out come back to: touched by one thread only, if they
/// stay where the port is.
#[derive(Debug)]
pub(super) struct Home {
    pool: Arc<Pool>,
    returned: Mutex<Vec<Buffer>>,
}

impl Home {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        let returned = Mutex::new(Vec::with_capacity(BATCH));
        Self { pool, returned }
    }

    fn give(&self, buffer: Buffer) {
        let mut returned = lock(&self.returned);
        returned.push(buffer);
        if returned.len() >= BATCH {
            self.pool.give(&mut returned);
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.pool.give(&mut lock(&self.returned));
    }
}

/// The free buffers of one port.
#[derive(Debug)]
pub(super) struct Spares {
    list: Vec<Buffer>,
    home: Arc<Home>,
}

impl Spares {
    pub(super) fn new(home: Arc<Home>) -> Self {
        let list = Vec::with_capacity(BATCH);
        Self { list, home }
    }

    /// The length of each buffer.
    pub(super) fn buffer_len(&self) -> usize {
        self.home.pool.len
    }

    pub(super) fn take(&mut self) -> Buffer {
        if self.list.is_empty() {
            mem::swap(&mut self.list, &mut lock(&self.home.returned));
        }
        match self.list.pop() {
            Some(buffer) => buffer,
            None => self.home.pool.take(&mut self.list),
        }
    }

    pub(super) fn give(&mut self, buffer: Buffer) {
        self.list.push(buffer);
        if self.list.len() >= BATCH {
            self.home.pool.give(&mut self.list);
        }
    }

    pub(super) fn copy(&mut self, frame: &Raw) -> Raw {
        let mut buffer = self.take();
        buffer[..frame.len].copy_from_slice(frame.bytes());
        Raw {
            buffer,
            len: frame.len,
        }
    }

    /// Makes a frame of what the port hands out.
    pub(super) fn frame(&self, raw: Raw) -> WireFrame {
        WireFrame {
            raw,
            home: Arc::clone(&self.home),
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.home.pool.give(&mut self.list);
    }
}
