//! Feature bits: of msgr2 itself (in the banner), and of the connection (in the ident frames).
//!
//! Source: `CEPH_MSGR2_FEATURE_*` in Ceph's `src/include/msgr.h`; `src/include/ceph_features.h`.

use std::fmt;
use std::ops::BitAnd;

/// A set of feature bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(pub u64);

/// Banner: frames as in msgr2.1.
pub const REVISION_1: Features = Features(1);
/// Banner: compression can be negotiated.
pub const COMPRESSION: Features = Features(2);

/// Connection: address vectors, without which there is no msgr2.
pub const MSG_ADDR2: Features = Features(1 << 59);
/// Connection: what Ceph 18.2 offers. Daemons choose encodings by it: a client that offers less
/// gets the layouts of older releases.
pub const SUPPORTED: Features = Features(0x3f01_cfbf_fffd_ffff);

impl Features {
    /// What of `required` is not in this set.
    #[must_use]
    pub const fn missing(self, required: Self) -> Self {
        Self(required.0 & !self.0)
    }

    /// Whether the set has no bit.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitAnd for Features {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
