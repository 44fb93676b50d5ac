//! The transports by name: which this host has, how to open them, and what the others lack.

mod probe;

use std::str::FromStr;

use msgr_transport::posix::Posix;
use msgr_transport::ring::{Ring, RingNetwork};
use msgr_transport::{OpenError, Transport};

pub(crate) use probe::{Finding, Status, findings};

/// A transport that `--transport` can name. `ring` stays within one process and cannot be asked
/// for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// The best that this host has.
    Auto,
    Posix,
}

/// The text names no transport.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unknown transport {0:?}, one of: auto, posix")]
pub(crate) struct UnknownTransport(String);

impl FromStr for Named {
    type Err = UnknownTransport;

    fn from_str(text: &str) -> Result<Self, UnknownTransport> {
        match text {
            "auto" => Ok(Self::Auto),
            "posix" => Ok(Self::Posix),
            other => Err(UnknownTransport(other.to_owned())),
        }
    }
}

impl Named {
    /// A new instance, for one reactor.
    pub(crate) fn open(self) -> Result<Box<dyn Transport>, OpenError> {
        match self {
            // Never silently: `doctor` and `compare` say why the others are out.
            Self::Auto | Self::Posix => Ok(Box::new(Posix::new()?)),
        }
    }
}

/// Opens one end of an in-process network.
pub(crate) fn open_ring(network: &RingNetwork) -> Result<Box<dyn Transport>, OpenError> {
    Ok(Box::new(Ring::new(network)?))
}
