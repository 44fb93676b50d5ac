//! [`AuthError`]: why an end does not get, or give, what authentication takes.

use crate::wire::{AuthName, EntityType, Malformed};

/// Why authentication fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Not by this method (`CEPH_AUTH_*`).
    #[error("authentication method {0} is not supported")]
    Method(u32),
    /// No method is left that both ends have, in a connection mode that we want.
    #[error("no authentication method for the connection modes that we want")]
    NothingInCommon,
    /// A payload cannot be parsed.
    #[error("bad authentication payload: {0}")]
    Malformed(#[from] Malformed),
    /// The method has no such step.
    #[error("the method takes no further step")]
    UnexpectedStep,
    /// Nobody of this name is known.
    #[error("{0} is unknown")]
    UnknownName(AuthName),
    /// What was encrypted for us, or is to be, was not encrypted with the key that we know.
    #[error("wrong key")]
    WrongKey,
    /// The ticket is not valid any more.
    #[error("the ticket has expired")]
    TicketExpired,
    /// We have no ticket for services of this type.
    #[error("no ticket for services of type {0}")]
    NoTicket(EntityType),
    /// The authorizer was shown before.
    #[error("the authorizer was used before")]
    Replayed,
    /// Only keys of type 1 (AES-128) are supported.
    #[error("key type {0} is not supported")]
    UnsupportedKeyType(u16),
    /// We have no key to log in with.
    #[error("no key to log in with")]
    NoKey,
    /// The peer is something else than what it said in HELLO.
    #[error("{proven} announced itself as {announced}")]
    WrongType {
        /// By its HELLO.
        announced: EntityType,
        /// By its key.
        proven: AuthName,
    },
    /// An authorizer for a type of service (`CEPH_ENTITY_TYPE_*`) that we are not.
    #[error("an authorizer for a service of type {0}")]
    WrongService(u32),
    /// The ticket was encrypted with a secret of the service that we do not have.
    #[error("no service secret {0}")]
    NoSuchSecret(u64),
    /// The ticket or the authorizer was made by who does not have the key for it.
    #[error("the authorizer is forged")]
    ForgedAuthorizer,
    /// The peer cannot read the ticket that we showed it: it is not the service.
    #[error("the answer to our authorizer is forged")]
    ForgedReply,
    /// The monitor refuses, and says why: a negative errno.
    #[error("refused: result {0}")]
    Refused(i32),
    /// Here are no logins, or no authorizers.
    #[error("{0} are not taken here")]
    NotTaken(&'static str),
    /// We have no secrets yet to check tickets with; the peer is to come again.
    #[error("not ready yet")]
    Busy,
    /// The connection is to be encrypted, and there is nothing to do it with.
    #[error("no connection secret of 64 bytes")]
    NoSecret,
}

impl AuthError {
    /// The errno that the peer is told: Linux's number, whatever the host's is.
    pub const fn errno(&self) -> i32 {
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        const EBUSY: i32 = 16;
        const EINVAL: i32 = 22;
        const EOPNOTSUPP: i32 = 95;
        match self {
            Self::Method(_) | Self::NothingInCommon | Self::NotTaken(_) => EOPNOTSUPP,
            Self::Malformed(_) | Self::UnexpectedStep | Self::UnsupportedKeyType(_) => EINVAL,
            Self::NoTicket(_) | Self::NoSecret | Self::NoKey => EPERM,
            Self::Busy => EBUSY,
            Self::UnknownName(_)
            | Self::WrongKey
            | Self::WrongType { .. }
            | Self::WrongService(_)
            | Self::TicketExpired
            | Self::NoSuchSecret(_)
            | Self::ForgedAuthorizer
            | Self::ForgedReply
            | Self::Refused(_)
            | Self::Replayed => EACCES,
        }
    }
}
