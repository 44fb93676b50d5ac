//! [`Setup`]: in which of two ways connections are set up, and all that follows from it for what two
//! ends say to each other.

use super::completion::Completion;
use super::wire::Immediate;

/// How connections are set up, and what peers therefore agree on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Setup {
    /// By `rdma_cm`, among our own kind. Each send says by its immediate data what the peer has to
    /// know; a sender has credits for the receives that all connections share.
    #[default]
    ConnectionManager,
    /// As Ceph does (`ms_type = async+rdma`): over a TCP connection, which stays open beside the queue
    /// pair. Sends are nothing but bytes, and one without any is the end. There are no credits: each
    /// queue pair has receives of its own, and a sender that has used them up waits at its device.
    Ceph,
}

impl Setup {
    /// Whether a sender counts the receives that it may use.
    pub(super) fn has_credits(self) -> bool {
        self == Self::ConnectionManager
    }

    /// What goes along with a send.
    pub(super) fn encode(self, immediate: Immediate) -> Option<u32> {
        self.has_credits().then(|| immediate.encode())
    }

    /// What a send that has come says beside its bytes; nothing if it is none of such a peer.
    pub(super) fn decode(self, completion: &Completion) -> Option<Immediate> {
        match self {
            Self::ConnectionManager => completion.immediate().map(Immediate::decode),
            Self::Ceph => Some(Immediate {
                last: completion.len() == 0,
                ..Immediate::default()
            }),
        }
    }

    /// Whether a peer that acknowledges nothing for long is gone. One that may leave sends waiting
    /// as long as it likes may still be there; its TCP connection tells.
    pub(super) fn silence_is_death(self) -> bool {
        self.has_credits()
    }
}
