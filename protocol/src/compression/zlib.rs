//! Zlib as Ceph has it: a mark, then raw deflate with the largest window.
//!
//! The mark says which implementation compressed, which does not matter. Accelerators may cut their
//! input into several deflate streams, of which one follows the other.
//!
//! Source: RFC 1951; Ceph's `src/compressor/zlib/ZlibCompressor.cc`.

use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress};

use super::{Algorithm, CompressionError};

/// Ceph's `compressor_zlib_level`.
const LEVEL: u8 = 5;
/// Of the implementation that needs no special processor.
const MARK: u8 = 0;
const DAMAGED: CompressionError = CompressionError::Damaged {
    algorithm: Algorithm::Zlib,
};

pub(super) struct Encoder(Box<CompressorOxide>);

impl Encoder {
    pub(super) fn new() -> Self {
        let mut state = Box::<CompressorOxide>::default();
        state.set_format_and_level(DataFormat::Raw, LEVEL);
        Self(state)
    }

    pub(super) fn compress(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.0.reset();
        out.push(MARK);
        let mut written = out.len();
        loop {
            out.resize(written + bytes.len() / 2 + 64, 0);
            let (status, read, more) =
                compress(&mut self.0, bytes, &mut out[written..], TDEFLFlush::Finish);
            bytes = &bytes[read..];
            written += more;
            match status {
                TDEFLStatus::Okay => {}
                TDEFLStatus::Done => break,
                TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => return None,
            }
        }
        out.truncate(written);
        Some(())
    }
}

pub(super) struct Decoder(Box<DecompressorOxide>);

impl Decoder {
    pub(super) fn new() -> Self {
        Self(Box::default())
    }

    /// Decompresses through a window that nobody keeps.
    pub(super) fn uncompressed_len(
        &mut self,
        bytes: &[u8],
        limit: usize,
    ) -> Result<usize, CompressionError> {
        let mut window = vec![0; TINFL_LZ_DICT_SIZE];
        let mut len = 0;
        for_streams(bytes, |mut bytes| {
            self.0.init();
            let mut at = 0;
            loop {
                let (status, read, more) = decompress(&mut self.0, bytes, &mut window, at, 0);
                bytes = &bytes[read..];
                at = (at + more) % window.len();
                len += more;
                if len > limit {
                    return Err(CompressionError::TooLong { limit });
                }
                if is_done(status)? {
                    return Ok(bytes);
                }
            }
        })?;
        Ok(len)
    }

    pub(super) fn decompress(
        &mut self,
        bytes: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        let mut len = 0;
        for_streams(bytes, |mut bytes| {
            self.0.init();
            // No stream refers to what is before it.
            let start = len;
            loop {
                let (status, read, more) = decompress(
                    &mut self.0,
                    bytes,
                    &mut out[start..],
                    len - start,
                    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
                );
                bytes = &bytes[read..];
                len += more;
                if is_done(status)? {
                    return Ok(bytes);
                }
                if len == limit {
                    return Err(CompressionError::TooLong { limit });
                }
                // Memory grows with what has come out, not with what is claimed.
                let room = len.max(4 * bytes.len()).max(1 << 10);
                out.resize(len.saturating_add(room).min(limit), 0);
            }
        })?;
        out.truncate(len);
        Ok(out)
    }
}

/// Calls `stream` with the bytes from the start of each stream on, as long as it leaves any over.
fn for_streams(
    bytes: &[u8],
    mut stream: impl FnMut(&[u8]) -> Result<&[u8], CompressionError>,
) -> Result<(), CompressionError> {
    let (_mark, mut bytes) = bytes.split_first().ok_or(DAMAGED)?;
    loop {
        bytes = stream(bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
    }
}

/// Whether a stream is at its end; if not, it needs more room.
fn is_done(status: TINFLStatus) -> Result<bool, CompressionError> {
    match status {
        TINFLStatus::Done => Ok(true),
        TINFLStatus::HasMoreOutput => Ok(false),
        _ => Err(DAMAGED),
    }
}
