//! Every layout that is inside a frame, and nothing else: what bytes a value is, not what it means.
//!
//! One module per sub-protocol, so that each can grow by itself: [`auth`], [`session`],
//! [`liveness`], [`compression`]; they share [`codec`] and the building blocks [`addr`],
//! [`addr_vec`], [`name`], [`features`] and [`timestamp`]. All integers are little-endian, but for
//! the port and address within a socket address. A decoder ignores what follows the fields that it
//! knows.
//!
//! Source: msgr2 specification; Ceph's `src/msg/async/frames_v2.h` and `src/msg/msg_types.{h,cc}`.

pub mod addr;
pub mod addr_vec;
pub mod auth;
pub mod codec;
pub mod compression;
mod error;
pub mod features;
pub mod liveness;
pub mod name;
pub mod session;
mod tag;
pub mod timestamp;

use bytes::BytesMut;

pub use addr::{AddrType, EntityAddr, ParseAddrError};
pub use addr_vec::EntityAddrVec;
pub use auth::{
    AuthBadMethod, AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, AuthSignature, Hello,
    Mode, UnknownMode,
};
pub use codec::Reader;
pub use compression::{CompressionDone, CompressionRequest};
pub use error::Malformed;
pub use features::Features;
pub use liveness::{Ack, Keepalive2, Keepalive2Ack};
pub use name::{AuthName, EntityName, EntityType, ParseNameError};
pub use session::{
    ClientIdent, IdentMissingFeatures, ServerIdent, SessionReconnect, SessionReconnectOk,
    SessionReset, SessionRetry, SessionRetryGlobal, Wait, ident_flags,
};
pub use tag::Tag;
pub use timestamp::Timestamp;

/// The payload of a control frame.
pub trait Control: Sized {
    /// The type of the frame that carries it.
    const TAG: Tag;

    /// Appends the payload.
    fn encode(&self, out: &mut BytesMut);

    /// Parses a payload.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not such a payload.
    fn decode(payload: &[u8]) -> Result<Self, Malformed>;
}

#[cfg(test)]
mod tests;
