//! [`Case`]: one thing to measure, the same for every contender.

use std::fmt;

use serde::{Serialize, Serializer};

/// The length of the answer to a bulk request in bytes.
pub(super) const RECEIPT: usize = 16;

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Case {
    pub(super) kind: Kind,
    /// The length of a request in bytes.
    pub(super) size: usize,
    /// How many requests are under way at a time.
    pub(super) depth: usize,
}

/// What is asked of the server, and which figure is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Every request comes back; how long does it take?
    RoundTrip,
    /// Every request comes back; how many do in a second?
    Rate,
    /// Every request is only acknowledged; how many bytes arrive in a second?
    Bulk,
}

const fn case(kind: Kind, size: usize, depth: usize) -> Case {
    Case { kind, size, depth }
}

/// What `msgr compare` measures, in the order of the table.
pub(super) const CASES: [Case; 9] = [
    case(Kind::RoundTrip, 64, 1),
    case(Kind::RoundTrip, 4 << 10, 1),
    case(Kind::RoundTrip, 64 << 10, 1),
    case(Kind::Rate, 64, 16),
    case(Kind::Rate, 64, 64),
    case(Kind::Rate, 4 << 10, 16),
    case(Kind::Rate, 4 << 10, 64),
    case(Kind::Rate, 64 << 10, 16),
    case(Kind::Bulk, 1 << 20, 8),
];

impl Case {
    /// Whether a reply carries what the request did.
    pub(super) fn is_echo(self) -> bool {
        self.kind != Kind::Bulk
    }
}

impl Kind {
    /// What the figure counts.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::RoundTrip => "us",
            Self::Rate => "k msg/s",
            Self::Bulk => "GB/s",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundTrip => "round trip",
            Self::Rate => "rate",
            Self::Bulk => "bulk",
        })
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, size, depth } = self;
        match size {
            0..1024 => write!(f, "{size} B {kind}")?,
            1024..0x10_0000 => write!(f, "{} KiB {kind}", size >> 10)?,
            _ => write!(f, "{} MiB {kind}", size >> 20)?,
        }
        if *depth > 1 {
            write!(f, ", depth {depth}")
        } else {
            Ok(())
        }
    }
}
