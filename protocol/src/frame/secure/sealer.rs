//! [`Sealer`]: what seals the frames of one direction, and how a [`FrameWriter`] lays them out then.

use std::fmt;

use bytes::BytesMut;
use msgr_gcm::{KEY_LEN, TAG_LEN};

use super::{BLOCK_LEN, EPILOGUE_LEN, HEAD_LEN, INLINE_LEN, Nonce, padded};
use crate::frame::{FrameWriter, MAX_SEGMENTS, PREAMBLE_LEN, Preamble, Revision};
use crate::payload::Payload;

/// A body of this size that does not fit into the current block gets one of its own: to fill up the
/// current one would cut it in two, and to exchange it would waste what is left of it.
const OWN_BLOCK_FROM: usize = 32 << 10;

/// Seals the frames that one end of a connection sends.
#[derive(Clone)]
pub struct Sealer {
    cipher: msgr_gcm::Sealer,
    nonce: Nonce,
}

impl fmt::Debug for Sealer {
    /// Nothing secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    pub(super) fn new(key: &[u8; KEY_LEN], nonce: Nonce) -> Self {
        let cipher = msgr_gcm::Sealer::new(key);
        Self { cipher, nonce }
    }

    /// Whether there may be too few nonces for another frame. Then none is laid out any more: the
    /// connection needs a new secret, which is to say a new stream.
    pub fn is_exhausted(&self) -> bool {
        let records = match self.nonce.revision() {
            Revision::Rev0 => 1,
            Revision::Rev1 => 3,
        };
        self.nonce.left() < records
    }

    /// Passes over nonces.
    #[cfg(test)]
    pub(super) fn skip(&mut self, nonces: u64) {
        self.nonce.skip(nonces);
    }

    /// Uses up all nonces.
    #[cfg(test)]
    pub(in crate::frame) fn exhaust(&mut self) {
        self.skip(self.nonce.left());
    }

    fn start(&mut self) {
        let nonce = self.nonce.next();
        self.cipher.start(&nonce.expect("checked for each frame"));
    }

    /// Seals `bytes`, and zeros up to a whole block.
    fn padded(&mut self, bytes: &[u8], out: &mut BytesMut) {
        self.cipher.update(bytes, out);
        self.pad(bytes.len(), out);
    }

    fn pad(&mut self, len: usize, out: &mut BytesMut) {
        let padding = padded(len) - len;
        if padding > 0 {
            self.cipher.update(&[0; BLOCK_LEN][..padding], out);
        }
    }

    fn payloads(&mut self, payloads: &[&Payload], out: &mut BytesMut) {
        for payload in payloads {
            for slice in payload.slices() {
                self.cipher.update(slice, out);
            }
            self.pad(payload.len(), out);
        }
    }

    fn epilogue(&mut self, status: u8, out: &mut BytesMut) {
        let mut epilogue = [0; EPILOGUE_LEN];
        epilogue[0] = status;
        self.cipher.update(&epilogue, out);
    }
}

impl FrameWriter<'_> {
    /// Appends a sealed frame. Returns its size in bytes; 0, and appends nothing, if there are not
    /// enough nonces for it.
    #[inline(never)] // Frames that are not sealed do not need it.
    pub(in crate::frame) fn sealed(
        &mut self,
        sealer: &mut Sealer,
        status: u8,
        preamble: &Preamble,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> usize {
        if sealer.is_exhausted() {
            return 0;
        }
        let revision = sealer.nonce.revision();
        let len = preamble.sealed_len(revision);
        let payloads = &rest[..preamble.segments().len() - 1];
        if revision == Revision::Rev0 {
            self.contiguous(len, |out| {
                sealer.start();
                sealer.cipher.update(&preamble.encode(), out);
                sealer.padded(first, out);
                sealer.payloads(payloads, out);
                sealer.epilogue(status, out);
                sealer.cipher.finish(out);
            });
            return len;
        }
        let (inline, more) = first.split_at(first.len().min(INLINE_LEN));
        let mut head = [0; HEAD_LEN];
        head[..PREAMBLE_LEN].copy_from_slice(&preamble.encode());
        head[PREAMBLE_LEN..][..inline.len()].copy_from_slice(inline);
        let first_len = match padded(more.len()) {
            0 => 0,
            len => len + TAG_LEN,
        };
        let head_len = HEAD_LEN + TAG_LEN + first_len;
        self.make_room(head_len);
        sealer.start();
        sealer.cipher.update(&head, self.block);
        sealer.cipher.finish(self.block);
        if first_len > 0 {
            sealer.start();
            sealer.padded(more, self.block);
            sealer.cipher.finish(self.block);
        }
        if !payloads.is_empty() {
            self.contiguous(len - head_len, |out| {
                sealer.start();
                sealer.payloads(payloads, out);
                sealer.epilogue(status, out);
                sealer.cipher.finish(out);
            });
        }
        len
    }

    /// Has `write` append `len` bytes to memory that has room for them.
    fn contiguous(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) {
        let room = self.block.capacity() - self.block.len();
        if room < len && len >= OWN_BLOCK_FROM {
            self.finish();
            let mut own = self.blocks.exact(len);
            write(&mut own);
            self.queue.push_back(own.freeze());
        } else {
            self.make_room(len);
            write(self.block);
        }
    }
}
