//! Why bytes are not a frame.

use crate::compression::CompressionError;

/// The received bytes are not a frame that we could accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The preamble's checksum does not match its bytes.
    #[error("preamble crc is {received:#010x}, computed {computed:#010x}")]
    PreambleCrc {
        /// In the frame.
        received: u32,
        /// Over the bytes received.
        computed: u32,
    },
    /// A segment's checksum does not match its bytes.
    #[error("crc of segment {segment} is {received:#010x}, computed {computed:#010x}")]
    SegmentCrc {
        /// Its index, from 0.
        segment: usize,
        /// In the frame.
        received: u32,
        /// Over the bytes received.
        computed: u32,
    },
    /// No frame type has this number.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// A frame has one to four segments, a control frame has one.
    #[error("{0} segments")]
    SegmentCount(u8),
    /// A frame of several segments must not end with an empty one.
    #[error("the last of {0} segments is empty")]
    LastSegmentEmpty(u8),
    /// The segment is longer than we accept.
    #[error("segment {segment} of {len} bytes, the limit is {limit}")]
    SegmentTooLong {
        /// Its index, from 0.
        segment: usize,
        /// Its announced length in bytes.
        len: u32,
        /// Our limit in bytes.
        limit: u32,
    },
    /// An alignment is a power of two.
    #[error("alignment {alignment} of segment {segment}")]
    Alignment {
        /// Its index, from 0.
        segment: usize,
        /// As announced.
        alignment: u16,
    },
    /// The frame claims to be compressed, which was not negotiated.
    #[error("compressed, though compression was not negotiated")]
    Compressed,
    /// The segment does not decompress to what was compressed.
    #[error("segment {segment}: {error}")]
    Decompression {
        /// Its index, from 0.
        segment: usize,
        /// Why.
        error: CompressionError,
    },
    /// The epilogue says neither that the frame is complete nor that it was aborted.
    #[error("late status {0:#04x}")]
    LateStatus(u8),
    /// A sealed record was changed on its way, or sealed with another key or nonce.
    #[error("the tag of a sealed record does not match")]
    TagMismatch,
    /// The peer has sealed as many records as a key allows, and goes on.
    #[error("more sealed records than nonces")]
    NoncesExhausted,
}
