//! Snappy: one raw block, without the framing format.
//!
//! Source: Snappy's `format_description.txt`; Ceph's `src/compressor/snappy/SnappyCompressor.h`.

use super::{Algorithm, CompressionError, as_told, within};

/// The most output bytes for an input byte: a copy element of three bytes stands for up to 64.
const MAX_RATIO: usize = 22;
const DAMAGED: CompressionError = CompressionError::Damaged {
    algorithm: Algorithm::Snappy,
};

pub(super) struct Encoder(snap::raw::Encoder);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(snap::raw::Encoder::new())
    }

    pub(super) fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        let room = match snap::raw::max_compress_len(bytes.len()) {
            // Says the crate of what is too long.
            0 => return None,
            room => room,
        };
        out.resize(start + room, 0);
        let len = self.0.compress(bytes, &mut out[start..]).ok()?;
        out.truncate(start + len);
        Some(())
    }
}

pub(super) fn uncompressed_len(bytes: &[u8], limit: usize) -> Result<usize, CompressionError> {
    if bytes.is_empty() {
        return Err(DAMAGED);
    }
    let len = snap::raw::decompress_len(bytes).map_err(|_| DAMAGED)?;
    if within(len, limit)? > bytes.len().saturating_mul(MAX_RATIO) {
        return Err(DAMAGED);
    }
    Ok(len)
}

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let len = uncompressed_len(bytes, limit)?;
    let out = snap::raw::Decoder::new().decompress_vec(bytes);
    as_told(out.map_err(|_| DAMAGED)?, len)
}
