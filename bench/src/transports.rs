//! The transports by name: which this host has, how to open them, and what the others lack.

use std::fmt;
use std::str::FromStr;

use msgr_transport::posix::Posix;
use msgr_transport::ring::{Ring, RingNetwork};
use msgr_transport::{OpenError, Transport};

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

/// Whether a transport can be used on this host.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
}

#[derive(Debug)]
pub(crate) enum Status {
    Available(String),
    Missing { reason: String, remedy: String },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available(detail) => write!(f, "available: {detail}"),
            Self::Missing { reason, remedy } => write!(f, "missing: {reason}; {remedy}"),
        }
    }
}
