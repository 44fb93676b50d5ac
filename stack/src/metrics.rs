//! [`Metrics`]: what a messenger has done, readable from any thread while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Live counters; each reactor adds to them without a lock.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }

        /// The counters at one moment. They only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            /// The counters now.
            pub fn totals(&self) -> Totals {
                Totals { $($name: self.$name.load(Ordering::Relaxed),)* }
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
}

/// Adds to a counter that only one thread at a time writes to.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
