//! `--mode`: how frames are protected.

use std::str::FromStr;

/// A connection mode that this version has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// Checksums.
    Crc,
}

/// The text names no mode that this version has.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unknown mode {0:?}, this version has: crc")]
pub(crate) struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        if text == "crc" {
            Ok(Self::Crc)
        } else {
            Err(UnknownMode(text.to_owned()))
        }
    }
}
