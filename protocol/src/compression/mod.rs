//! On-wire compression: bytes in, bytes out, in the framing that Ceph puts around each algorithm.
//!
//! [`Compressor`] and [`Decompressor`] keep what an algorithm needs from one run to the next; every
//! run stands for itself. What is compressed when, and how two ends agree on it, is not known here.
//!
//! | | what is on the wire |
//! |---|---|
//! | snappy | one raw block, which begins with its uncompressed length |
//! | zlib | a mark (1 byte, of no meaning), then raw deflate streams |
//! | zstd | uncompressed length (LE32), then zstd frames |
//! | lz4 | number of blocks (LE32), original and compressed length of each (2 x LE32), the blocks |
//!
//! Received bytes are hostile: a length that they tell is compared with the limit, and with what
//! so few bytes could hold, before memory is set aside, and has to prove true.
//!
//! Source: Ceph's `src/compressor/*/*Compressor.{h,cc}`.

mod algorithm;
mod error;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zlib;
mod zstd;

use std::fmt;

pub use algorithm::Algorithm;
pub use error::CompressionError;

/// Compresses, one run of bytes after the other.
pub struct Compressor {
    algorithm: Algorithm,
    /// Made for the first run: it is large, and many connections never have one.
    encoder: Option<Encoder>,
}

#[allow(clippy::large_enum_variant)] // There is one for each connection that compresses.
enum Encoder {
    Snappy(snappy::Encoder),
    Zlib(zlib::Encoder),
    Zstd(zstd::Encoder),
    Lz4(lz4::Encoder),
}

impl Compressor {
    /// Compresses by this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            encoder: None,
        }
    }

    /// By what it compresses.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Appends `bytes` to `out`, compressed.
    ///
    /// # Errors
    /// [`CompressionError::Refused`] if the algorithm does not take so many bytes; `out` is as it was.
    pub fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let encoder = self.encoder.get_or_insert_with(|| match self.algorithm {
            Algorithm::Snappy => Encoder::Snappy(snappy::Encoder::new()),
            Algorithm::Zlib => Encoder::Zlib(zlib::Encoder::new()),
            Algorithm::Zstd => Encoder::Zstd(zstd::Encoder::new()),
            Algorithm::Lz4 => Encoder::Lz4(lz4::Encoder::new()),
        });
        let before = out.len();
        let done = match encoder {
            Encoder::Snappy(encoder) => encoder.compress(bytes, out),
            Encoder::Zlib(encoder) => encoder.compress(bytes, out),
            Encoder::Zstd(encoder) => encoder.compress(bytes, out),
            Encoder::Lz4(encoder) => encoder.compress(bytes, out),
        };
        done.ok_or_else(|| {
            out.truncate(before);
            CompressionError::Refused {
                algorithm: self.algorithm,
                len: bytes.len(),
            }
        })
    }
}

impl Clone for Compressor {
    /// No run depends on another, so there is nothing to copy.
    fn clone(&self) -> Self {
        Self::new(self.algorithm)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressor({})", self.algorithm)
    }
}

/// Decompresses, one run of bytes after the other.
pub struct Decompressor {
    algorithm: Algorithm,
    zlib: Option<zlib::Decoder>,
    zstd: Option<zstd::Decoder>,
}

impl Decompressor {
    /// Decompresses what this algorithm compressed.
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            zlib: None,
            zstd: None,
        }
    }

    /// By what the bytes are compressed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many bytes `bytes` decompress to, or claim to, which [`decompress`](Self::decompress)
    /// then holds them to. Takes no memory for them. With zlib, which does not tell, it takes as
    /// long as decompressing.
    ///
    /// # Errors
    /// [`CompressionError`]: more than `limit`, or damaged.
    pub fn uncompressed_len(
        &mut self,
        bytes: &[u8],
        limit: usize,
    ) -> Result<usize, CompressionError> {
        match self.algorithm {
            Algorithm::Snappy => snappy::uncompressed_len(bytes, limit),
            Algorithm::Zlib => self.zlib().uncompressed_len(bytes, limit),
            Algorithm::Zstd => zstd::uncompressed_len(bytes, limit),
            Algorithm::Lz4 => lz4::uncompressed_len(bytes, limit),
        }
    }

    /// What was compressed, up to `limit` bytes.
    ///
    /// # Errors
    /// [`CompressionError`]: more than `limit`, damaged, or of another length than it says.
    pub fn decompress(&mut self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        match self.algorithm {
            Algorithm::Snappy => snappy::decompress(bytes, limit),
            Algorithm::Zlib => self.zlib().decompress(bytes, limit),
            Algorithm::Zstd => self
                .zstd
                .get_or_insert_with(zstd::Decoder::new)
                .decompress(bytes, limit),
            Algorithm::Lz4 => lz4::decompress(bytes, limit),
        }
    }

    fn zlib(&mut self) -> &mut zlib::Decoder {
        self.zlib.get_or_insert_with(zlib::Decoder::new)
    }
}

impl Clone for Decompressor {
    /// No run depends on another, so there is nothing to copy.
    fn clone(&self) -> Self {
        Self::new(self.algorithm)
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decompressor({})", self.algorithm)
    }
}

/// The most bytes that a segment of up to `len` bytes may have compressed, with any algorithm:
/// what does not get smaller gets a little larger. Snappy's bound is the highest.
pub const fn max_compressed_len(len: usize) -> usize {
    len.saturating_add(len / 6).saturating_add(64)
}

/// Checks a length that the bytes tell.
fn within(len: usize, limit: usize) -> Result<usize, CompressionError> {
    if len > limit {
        return Err(CompressionError::TooLong { limit });
    }
    Ok(len)
}

/// Checks that as many bytes came out as was told.
fn as_told(bytes: Vec<u8>, told: usize) -> Result<Vec<u8>, CompressionError> {
    let actual = bytes.len();
    if actual != told {
        return Err(CompressionError::WrongLength { told, actual });
    }
    Ok(bytes)
}
