//! Why a transport could not open something, and why a connection ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// What was being opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The transport itself.
    Start,
    /// A listener.
    Listen,
    /// A connection.
    Connect,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start the transport",
            Self::Listen => "listen",
            Self::Connect => "connect",
        })
    }
}

/// A transport, listener or connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{transport}: cannot {operation}{}: {source}", at(.address.as_ref()))]
pub struct OpenError {
    /// The transport's name.
    pub transport: &'static str,
    /// What was tried.
    pub operation: Operation,
    /// Where, unless the transport itself could not start.
    pub address: Option<SocketAddr>,
    /// What the system said.
    pub source: io::Error,
}

fn at(address: Option<&SocketAddr>) -> String {
    address
        .map(|address| format!(" at {address}"))
        .unwrap_or_default()
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it after its last byte.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// Nobody listens there, or the listener declined.
    #[error("connection refused")]
    Refused,
    /// The peer dropped it.
    #[error("connection reset by the peer")]
    Reset,
    /// The peer does not answer.
    #[error("connection timed out")]
    TimedOut,
    /// There is no way to the peer.
    #[error("the peer is unreachable")]
    Unreachable,
    /// Fault injection ended it.
    #[error("injected fault")]
    Injected,
    /// Anything else that the system reported, by its error number.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Os(i32),
}

impl From<&io::Error> for CloseReason {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::Reset,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Os(error.raw_os_error().unwrap_or_default()),
        }
    }
}
