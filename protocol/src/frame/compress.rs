//! [`FrameCompressor`]: how the segments of sent frames are compressed, and which frames are.
//!
//! Source: `FrameAssembler::asm_compress` in Ceph's `src/msg/async/frames_v2.cc`; `TxHandler` in
//! `src/msg/async/compression_onwire.cc`.

use bytes::Bytes;

use super::MAX_SEGMENTS;
use crate::compression::{Algorithm, Compressor};
use crate::payload::Payload;

/// Compresses the frames that one end of a connection sends, as both ends have agreed.
#[derive(Debug, Clone)]
pub struct FrameCompressor {
    compressor: Compressor,
    min_size: usize,
}

impl FrameCompressor {
    /// Frames of which the segments have `min_size` bytes or more together are compressed.
    pub fn new(algorithm: Algorithm, min_size: usize) -> Self {
        Self {
            compressor: Compressor::new(algorithm),
            min_size,
        }
    }

    /// The segments, each that is not empty compressed on its own. `None` if the frame goes as it
    /// is: it is small, cannot be compressed, or would not get smaller.
    #[inline(never)] // Frames that are not compressed do not need it.
    pub(super) fn compress(
        &mut self,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> Option<[Bytes; MAX_SEGMENTS]> {
        let payload_len: usize = rest.iter().map(|payload| payload.len()).sum();
        let len = first.len() + payload_len;
        if len < self.min_size {
            return None;
        }
        let mut out = Vec::new();
        let mut ends = [0; MAX_SEGMENTS];
        let mut compress = |bytes: &[u8]| {
            if !bytes.is_empty() {
                self.compressor.compress(bytes, &mut out).ok()?;
            }
            Some(out.len())
        };
        ends[0] = compress(first)?;
        for (payload, end) in rest.iter().zip(&mut ends[1..]) {
            *end = compress(&payload.contiguous())?;
        }
        if out.len() >= len {
            return None;
        }
        // There was room for bytes that do not get smaller.
        out.shrink_to_fit();
        let mut out = Bytes::from(out);
        let mut start = 0;
        Some(ends.map(|end| {
            let segment = out.split_to(end - start);
            start = end;
            segment
        }))
    }
}
