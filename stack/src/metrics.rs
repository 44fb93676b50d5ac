//! [`Totals`]: what a messenger has done, readable from any thread while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

use msgr_protocol::Cause;

use crate::error::FaultCause;

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Live counters of one reactor, which alone writes to them.
        #[derive(Debug, Default)]
        #[repr(align(128))] // No two reactors write to the same cache line.
        pub(crate) struct Metrics {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }

        /// The counters at one moment. They only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            /// The counters now.
            pub(crate) fn totals(&self) -> Totals {
                Totals { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl std::iter::Sum for Totals {
            fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
                totals.fold(Self::default(), |sum, one| Self { $($name: sum.$name + one.$name,)* })
            }
        }
    };
}

metrics! {
    /// Messages received.
    messages_received,
    /// Messages sent or queued to be sent.
    messages_sent,
    /// Payload bytes of messages received.
    bytes_received,
    /// Payload bytes of messages sent or queued to be sent.
    bytes_sent,
    /// Connections that peers opened and that became ready.
    accepted,
    /// Connections that we opened and that became ready.
    connected,
    /// Ready connections that broke and took their session with them.
    resets,
    /// Connections that ended before they were ready.
    failed_handshakes,
    /// Connections of peers that were closed at once, because there were too many.
    turned_away,
    /// Times that a peer was not let in, because it did not show who it is.
    auth_refused,
    /// Sessions that went on over a new stream.
    reconnects,
    /// Streams that ended under a session that goes on, and attempts to make one that failed.
    interruptions,
    /// Streams that ended because what was received cannot be parsed, was damaged or forged.
    malformed,
    /// Streams that ended because the peer sent what it must not.
    peer_misbehaved,
    /// Streams that ended because the two ends have too little in common.
    peer_incompatible,
    /// Streams that the transport or the peer ended, and those that could not be opened.
    broken,
    /// Streams that ended because something took too long.
    timed_out,
    /// Streams that ended in favour of another of the same peer, or because we wanted it.
    given_up,
    /// Sessions that the peer forgot.
    remote_resets,
    /// Messages sent again over a new stream.
    replayed,
    /// Connections that a peer was told to wait for, because ours was under way and came first.
    races_won,
    /// Connections of ours that gave way to the peer's.
    races_lost,
    /// Times that a message had to wait for room in a budget.
    throttled,
}

impl Metrics {
    /// The counter of streams that ended like that.
    pub(crate) fn of(&self, cause: &FaultCause) -> &AtomicU64 {
        match cause {
            FaultCause::Protocol(Cause::Malformed(_)) => &self.malformed,
            FaultCause::Protocol(Cause::PeerMisbehaved(_)) => &self.peer_misbehaved,
            FaultCause::Protocol(_) => &self.peer_incompatible,
            FaultCause::Transport { .. } | FaultCause::Open(_) => &self.broken,
            FaultCause::ReadyTimeout | FaultCause::IdleTimeout | FaultCause::ShutDownTimeout => {
                &self.timed_out
            }
            FaultCause::Outrun | FaultCause::Replaced | FaultCause::ShutDown => &self.given_up,
        }
    }
}

/// Adds to a counter of the calling reactor: with one writer, no read-modify-write is needed.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.store(
        counter.load(Ordering::Relaxed) + n as u64,
        Ordering::Relaxed,
    );
}
