//! [`Algorithm`]: by what to compress; its number on the wire and its name in configurations.

use std::fmt;
use std::str::FromStr;

/// A way to compress that both ends know.
///
/// Source: `COMP_ALG_*` in Ceph's `src/compressor/Compressor.h`. Brotli (5) is not offered: Ceph is
/// rarely built with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Algorithm {
    /// Fast, little gain.
    Snappy = 1,
    /// Deflate: slow, much gain.
    Zlib = 2,
    /// Much gain for its speed.
    Zstd = 3,
    /// The fastest, little gain.
    Lz4 = 4,
}

impl Algorithm {
    /// What stands for no compression.
    pub const NONE: u32 = 0;
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Snappy, Self::Zlib, Self::Zstd, Self::Lz4];

    /// The algorithm that has this number on the wire.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u32 == id)
    }

    /// The name that Ceph's configuration has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snappy => "snappy",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no compression algorithm is called {0:?} (there are snappy, zlib, zstd, lz4)")]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}
