//! AES-128-GCM without additional data, over input that comes in pieces.
//!
//! msgr2's secure mode seals whatever slices the application chained together, and opens whatever
//! slices the transport received; neither is contiguous, and copying them together first would cost
//! a third of the speed. A [`Sealer`] or [`Opener`] is keyed once for a connection and then does one
//! *record* after the other: [`start`](Sealer::start) with a nonce, [`update`](Sealer::update) for
//! each piece, which appends as many bytes to the output, and [`finish`](Sealer::finish).
//!
//! Whoever uses this gives every record a nonce of its own. What an [`Opener`] has given out must
//! not be used before [`Opener::finish`] has found the record to be intact.
//!
//! Source: NIST SP 800-38D.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod aws_lc;
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod portable;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::BytesMut;

/// The size of a key in bytes.
pub const KEY_LEN: usize = 16;
/// The size of a nonce in bytes.
pub const NONCE_LEN: usize = 12;
/// The size of the tag that a sealed record ends with, in bytes.
pub const TAG_LEN: usize = 16;

/// The record was changed on its way, or sealed with another key or nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagMismatch;

impl fmt::Display for TagMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tag does not match")
    }
}

impl std::error::Error for TagMismatch {}

/// Which way records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Seal,
    Open,
}

/// What an implementation of AES-128-GCM does; it zeroizes its key when it is dropped.
trait Backend: Clone {
    fn new(key: &[u8; KEY_LEN], direction: Direction) -> Self;

    /// Begins a record; what was begun before is forgotten.
    fn start(&mut self, nonce: &[u8; NONCE_LEN]);

    /// Appends the next piece of the record, sealed or opened, to `out`.
    fn update(&mut self, input: &[u8], out: &mut BytesMut);

    /// The tag of the record that was sealed.
    fn tag(&mut self) -> [u8; TAG_LEN];

    /// Whether `tag` is that of the record that was opened, found out in constant time.
    fn verify(&mut self, tag: &[u8; TAG_LEN]) -> bool;
}

/// The backend in use: the fastest at every size, by `cargo bench -p msgr-protocol --bench frames`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Chosen = aws_lc::AwsLc;
/// Where the other one has no assembler, it is no faster, and needs a C compiler.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Chosen = portable::Portable;

/// Seals records.
#[derive(Clone)]
pub struct Sealer(Chosen);

impl Sealer {
    /// With this key.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(Chosen::new(key, Direction::Seal))
    }

    /// Begins a record; what was begun before is forgotten.
    pub fn start(&mut self, nonce: &[u8; NONCE_LEN]) {
        self.0.start(nonce);
    }

    /// Appends the next piece of the record, sealed, to `out`.
    pub fn update(&mut self, plain: &[u8], out: &mut BytesMut) {
        self.0.update(plain, out);
    }

    /// Appends the tag, which ends the record, to `out`.
    pub fn finish(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.0.tag());
    }
}

/// Opens records.
#[derive(Clone)]
pub struct Opener(Chosen);

impl Opener {
    /// With this key.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(Chosen::new(key, Direction::Open))
    }

    /// Begins a record; what was begun before is forgotten.
    pub fn start(&mut self, nonce: &[u8; NONCE_LEN]) {
        self.0.start(nonce);
    }

    /// Appends the next piece of the record, opened, to `out`. Nobody knows yet whether it is what
    /// was sealed.
    pub fn update(&mut self, sealed: &[u8], out: &mut BytesMut) {
        self.0.update(sealed, out);
    }

    /// Ends the record.
    ///
    /// # Errors
    /// [`TagMismatch`]: it is not what was sealed, and nothing of it may be used.
    pub fn finish(&mut self, tag: &[u8; TAG_LEN]) -> Result<(), TagMismatch> {
        if self.0.verify(tag) {
            Ok(())
        } else {
            Err(TagMismatch)
        }
    }
}

impl fmt::Debug for Sealer {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl fmt::Debug for Opener {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}
