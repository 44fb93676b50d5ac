//! Zstandard: the uncompressed length, then frames as of RFC 8878.
//!
//! Source: Ceph's `src/compressor/zstd/ZstdCompressor.h`.

use zstd_safe::{CCtx, DCtx, compress_bound, get_frame_content_size};

use super::{Algorithm, CompressionError, as_told, within};

/// Ceph's `compressor_zstd_level`.
const LEVEL: i32 = 1;
const DAMAGED: CompressionError = CompressionError::Damaged {
    algorithm: Algorithm::Zstd,
};

pub(super) struct Encoder(CCtx<'static>);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(CCtx::create())
    }

    pub(super) fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
        let start = out.len();
        out.resize(start + compress_bound(bytes.len()), 0);
        let len = self.0.compress(&mut out[start..], bytes, LEVEL).ok()?;
        out.truncate(start + len);
        Some(())
    }
}

/// The length that `bytes` tell, and what follows it.
fn split_len(bytes: &[u8], limit: usize) -> Result<(usize, &[u8]), CompressionError> {
    let (told, frames) = bytes.split_first_chunk().ok_or(DAMAGED)?;
    let told = within(u32::from_le_bytes(*told) as usize, limit)?;
    // The frame may tell as well; there may be more than one.
    match get_frame_content_size(frames) {
        Ok(Some(first)) if first > told as u64 => Err(DAMAGED),
        Ok(_) => Ok((told, frames)),
        Err(_) => Err(DAMAGED),
    }
}

pub(super) fn uncompressed_len(bytes: &[u8], limit: usize) -> Result<usize, CompressionError> {
    split_len(bytes, limit).map(|(told, _)| told)
}

pub(super) struct Decoder(DCtx<'static>);

impl Decoder {
    pub(super) fn new() -> Self {
        Self(DCtx::create())
    }

    pub(super) fn decompress(
        &mut self,
        bytes: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, CompressionError> {
        let (told, frames) = split_len(bytes, limit)?;
        // Reserved, not filled: pages that nothing is decompressed to cost nothing.
        let mut out = Vec::with_capacity(told);
        self.0.decompress(&mut out, frames).map_err(|_| DAMAGED)?;
        as_told(out, told)
    }
}
