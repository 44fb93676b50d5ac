//! Why bytes cannot be compressed or decompressed.

use super::Algorithm;

/// Bytes cannot be compressed, or are not what they should decompress to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// The algorithm does not take so many bytes.
    #[error("{len} bytes cannot be compressed by {algorithm}")]
    Refused {
        /// Which.
        algorithm: Algorithm,
        /// How many.
        len: usize,
    },
    /// The bytes are not what this algorithm makes.
    #[error("not compressed by {algorithm}, or damaged")]
    Damaged {
        /// Which.
        algorithm: Algorithm,
    },
    /// Decompressed, there would be more bytes than the limit.
    #[error("decompresses to more than {limit} bytes")]
    TooLong {
        /// In bytes.
        limit: usize,
    },
    /// The bytes decompress to more or fewer bytes than they say.
    #[error("decompresses to {actual} bytes, announced as {told}")]
    WrongLength {
        /// As told by the bytes.
        told: usize,
        /// As it is.
        actual: usize,
    },
}
