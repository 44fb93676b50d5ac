//! LZ4: a table of blocks, then the blocks, in LZ4's block format.
//!
//! A sender whose input lies in several places compresses each as a block of its own, in one
//! context: a block may refer to what the blocks before it stand for.
//!
//! Source: LZ4's `lz4_Block_format.md`; Ceph's `src/compressor/lz4/LZ4Compressor.h`.

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into_with_dict, get_maximum_output_size,
};

use super::{Algorithm, CompressionError, as_told, within};

/// LZ4's `LZ4_MAX_INPUT_SIZE`.
const MAX_INPUT: usize = 0x7e00_0000;
/// The most output bytes for an input byte: a length goes on by up to 255 a byte.
const MAX_RATIO: usize = 255;
/// How far back a block refers.
const WINDOW: usize = 64 << 10;
/// The number of blocks, and one entry of the table.
const HEAD_LEN: usize = 4;
const ENTRY_LEN: usize = 8;
const DAMAGED: CompressionError = CompressionError::Damaged {
    algorithm: Algorithm::Lz4,
};

pub(super) struct Encoder(CompressTable);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(CompressTable::large())
    }

    /// One block.
    pub(super) fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        if bytes.len() > MAX_INPUT {
            return None;
        }
        let head = out.len();
        let start = head + HEAD_LEN + ENTRY_LEN;
        out.resize(start + get_maximum_output_size(bytes.len()), 0);
        let len = compress_into_with_table(bytes, &mut out[start..], &mut self.0).ok()?;
        out.truncate(start + len);
        let words = [1, bytes.len() as u32, len as u32];
        for (slot, word) in out[head..start].as_chunks_mut().0.iter_mut().zip(words) {
            *slot = word.to_le_bytes();
        }
        Some(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    original: usize,
    compressed: usize,
}

/// The table, the blocks, and how many bytes they claim to be.
struct Parts<'a> {
    entries: &'a [[u8; ENTRY_LEN]],
    blocks: &'a [u8],
    len: usize,
}

fn entry([a, b, c, d, rest @ ..]: [u8; ENTRY_LEN]) -> Entry {
    Entry {
        original: u32::from_le_bytes([a, b, c, d]) as usize,
        compressed: u32::from_le_bytes(rest) as usize,
    }
}

fn split(bytes: &[u8], limit: usize) -> Result<Parts<'_>, CompressionError> {
    let (count, rest) = bytes.split_first_chunk().ok_or(DAMAGED)?;
    let count = u32::from_le_bytes(*count) as usize;
    let table_len = count.checked_mul(ENTRY_LEN).ok_or(DAMAGED)?;
    let (table, blocks) = rest.split_at_checked(table_len).ok_or(DAMAGED)?;
    let (entries, _) = table.as_chunks();
    let (mut len, mut compressed) = (0, 0);
    for entry in entries.iter().copied().map(entry) {
        len = within(entry.original.saturating_add(len), limit)?;
        compressed += entry.compressed;
        if entry.original > entry.compressed.saturating_mul(MAX_RATIO) {
            return Err(DAMAGED);
        }
        if compressed > blocks.len() {
            return Err(DAMAGED);
        }
    }
    if compressed != blocks.len() {
        return Err(DAMAGED);
    }
    Ok(Parts {
        entries,
        blocks,
        len,
    })
}

pub(super) fn uncompressed_len(bytes: &[u8], limit: usize) -> Result<usize, CompressionError> {
    split(bytes, limit).map(|parts| parts.len)
}

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let Parts {
        entries,
        mut blocks,
        len,
    } = split(bytes, limit)?;
    let mut out = vec![0; len];
    let mut done = 0;
    for entry in entries.iter().copied().map(entry) {
        let (block, later) = blocks.split_at(entry.compressed);
        let (before, room) = out.split_at_mut(done);
        let before = &before[done.saturating_sub(WINDOW)..];
        let actual = decompress_into_with_dict(block, &mut room[..entry.original], before)
            .map_err(|_| DAMAGED)?;
        if actual != entry.original {
            let told = entry.original;
            return Err(CompressionError::WrongLength { told, actual });
        }
        done += actual;
        blocks = later;
    }
    as_told(out, len)
}
