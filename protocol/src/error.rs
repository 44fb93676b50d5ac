//! What can go wrong with a connection, sorted by whose fault it is.

use crate::auth::AuthError;
use crate::connection::State;
use crate::frame::FrameError;
use crate::peer::Peer;
use crate::wire::{self, EntityAddr, EntityAddrVec, EntityType, Features, Tag};

/// A connection that cannot go on: who was at the other end, how far it had come, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{peer}: {cause} (in state {state})")]
pub struct ConnectionError {
    /// The other end, as far as it is known.
    pub peer: Box<Peer>,
    /// The state in which it happened.
    pub state: State,
    /// What happened.
    pub cause: Cause,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The received bytes cannot be parsed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The peer sent something that can be parsed but is not allowed now.
    #[error(transparent)]
    PeerMisbehaved(#[from] PeerMisbehaved),
    /// Both ends are right, but cannot talk to each other.
    #[error(transparent)]
    PeerIncompatible(#[from] PeerIncompatible),
    /// In secure mode so much was sent that a nonce would have to be used again: nobody's fault, and
    /// the next stream has new ones.
    #[error("out of nonces")]
    OutOfNonces,
}

/// Received bytes that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The peer does not speak Ceph's messenger protocol at all.
    #[error("not a Ceph banner: {}", .0.escape_ascii())]
    Banner([u8; 8]),
    /// The banner announces a payload that is too short or absurdly long, in bytes.
    #[error("banner payload of {0} bytes")]
    BannerLength(u16),
    /// The bytes are no frame.
    #[error("bad frame: {0}")]
    Frame(#[from] FrameError),
    /// The frame is sound, its payload is not.
    #[error("bad {tag} frame: {source}")]
    Payload {
        /// The frame's type.
        tag: Tag,
        /// What is wrong with it.
        source: wire::Malformed,
    },
    /// A message's first segment is shorter than a header, in bytes.
    #[error("message header of {0} bytes")]
    HeaderLength(usize),
}

/// Legal bytes that are illegal now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// This frame is not allowed in this state.
    #[error("unexpected {0} frame")]
    UnexpectedFrame(Tag),
    /// A frame other than a message was aborted.
    #[error("aborted {0} frame")]
    AbortedFrame(Tag),
    /// The signature over the handshake is wrong.
    #[error("wrong handshake signature")]
    WrongSignature,
    /// The peer chose a connection mode that we did not offer.
    #[error("connection mode {0}, which was not offered")]
    UnofferedMode(u32),
    /// The peer chose a compression algorithm that we did not offer.
    #[error("compression algorithm {0}, which was not offered")]
    UnofferedCompression(u32),
    /// The peer keeps asking for authentication methods that we refuse, or proves nothing.
    #[error("not authenticated in {0} attempts")]
    TooManyAuthAttempts(u32),
    /// The peer, which we are to trust, does not show that it is who we wanted.
    #[error("the peer is not who it should be: {0}")]
    Unauthentic(AuthError),
    /// The peer sends more than any handshake takes.
    #[error("a handshake of {bytes} bytes and more, the limit is {limit}")]
    HandshakeTooLong {
        /// Received so far.
        bytes: usize,
        /// In bytes.
        limit: u32,
    },
    /// The peer asks for the session of somebody else.
    #[error("a session of another principal")]
    SessionOfAnother,
    /// Messages are missing: the connection lost some, or the peer did.
    #[error("message sequence jumps from {last} to {received}")]
    SequenceGap {
        /// The last one received.
        last: u64,
        /// The one that came next.
        received: u64,
    },
    /// The peer acknowledges a message that was never sent.
    #[error("message {seq} is acknowledged, the last one sent is {last}")]
    AckOfUnsent {
        /// The one acknowledged.
        seq: u64,
        /// The last one sent.
        last: u64,
    },
    /// The peer resumes a session from an earlier message than it has acknowledged.
    #[error("the peer resumes after message {seq}, it acknowledged {acked}")]
    AckTakenBack {
        /// The one it resumes after.
        seq: u64,
        /// The last one acknowledged.
        acked: u64,
    },
    /// The peer wants a sequence continued that could not go on for long.
    #[error("a sequence is to continue behind {0}")]
    SequenceExhausted(u64),
    /// The peer opens a session that is to outlive its connection, and gives it no name.
    #[error("a lossless session without a cookie")]
    NoCookie,
    /// The peer keeps asking (for signs of life, or for a session that it cannot have), and does
    /// not read the answers.
    #[error("{bytes} bytes of answers are unread")]
    UnreadAnswers {
        /// Bytes of answers that could not be sent.
        bytes: usize,
    },
    /// The peer dialled an address that is not ours.
    #[error("the peer dialled {target}, we are {ours}")]
    WrongTarget {
        /// What it dialled.
        target: EntityAddr,
        /// What we are.
        ours: Box<EntityAddrVec>,
    },
    /// The peer is not the one we dialled.
    #[error("dialled {target}, the peer is {theirs}")]
    WrongIdentity {
        /// What we dialled.
        target: EntityAddr,
        /// What the peer says it is.
        theirs: Box<EntityAddrVec>,
    },
}

/// Two correct ends that cannot talk to each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIncompatible {
    /// The peer speaks messenger version 1 only, or we dialled its version 1 port.
    #[error("the peer speaks messenger v1")]
    SpeaksV1,
    /// We require msgr2 features that the peer does not have.
    #[error("the peer lacks msgr2 features {0}")]
    PeerLacksBannerFeatures(Features),
    /// The peer requires msgr2 features that we do not have.
    #[error("the peer requires msgr2 features {0}")]
    WeLackBannerFeatures(Features),
    /// We require connection features that the peer does not have.
    #[error("the peer lacks features {0}")]
    PeerLacksFeatures(Features),
    /// The peer requires connection features that we do not have.
    #[error("the peer requires features {0}")]
    WeLackFeatures(Features),
    /// Another kind of entity answered than the one we dialled.
    #[error("dialled an entity of type {dialled}, {answered} answered")]
    WrongEntityType {
        /// What we dialled.
        dialled: EntityType,
        /// What answered.
        answered: EntityType,
    },
    /// We cannot show the peer who we are: we lack what it takes, or no connection mode is left.
    #[error("cannot authenticate: {0}")]
    CannotAuthenticate(AuthError),
    /// The peer accepts neither our authentication method nor our connection modes, or not what we
    /// have shown.
    #[error(
        "authentication method {method} refused with {result}; \
         the peer allows methods {allowed_methods:?}, modes {allowed_modes:?}"
    )]
    AuthRefused {
        /// What we asked for.
        method: u32,
        /// A negative errno.
        result: i32,
        /// The methods that the peer would take.
        allowed_methods: Vec<u32>,
        /// The connection modes that the peer would take.
        allowed_modes: Vec<u32>,
    },
}

/// A call that can never succeed, whatever the peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// A message's payload is longer than the limit that applies to both directions.
    #[error("{part} of {len} bytes, the limit is {limit}")]
    PayloadTooLong {
        /// `front`, `middle` or `data`.
        part: &'static str,
        /// In bytes.
        len: usize,
        /// In bytes.
        limit: u32,
    },
}
