//! [`Totals`]: what a messenger has done, readable from any thread while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Sessions that went on over a new stream.
    reconnects,
    /// Streams that ended under a session that goes on, and attempts to make one that failed.
    interruptions,
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

/// Adds to a counter of the calling reactor: with one writer, no read-modify-write is needed.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.store(
        counter.load(Ordering::Relaxed) + n as u64,
        Ordering::Relaxed,
    );
}
