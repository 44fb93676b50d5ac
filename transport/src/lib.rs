//! Transports: ordered byte channels that are polled, batched, and hand up memory they own.
//!
//! [`Transport`] is the whole contract; [`posix`] sockets, the in-process [`ring`] and the seeded
//! [`sim`] implement it, and so does [`middleware`] that wraps any of them. Nothing in this crate
//! knows msgr2: message boundaries are the protocol's business. No implementation reads a clock,
//! starts a thread or blocks; whoever drives it decides when to poll and when to sleep.

#![deny(unsafe_code)]

// The contract of all transports, for those that are tested against what is private to them.
#[cfg(test)]
extern crate self as msgr_transport;
#[cfg(test)]
#[path = "../tests/conformance/mod.rs"]
mod conformance;

mod error;
mod pool;
mod send_queue;
mod slots;
mod transport;

pub mod dpdk;
pub mod middleware;
pub mod posix;
pub mod rdma;
pub mod ring;
pub mod sim;
pub mod tcp;

pub use error::{CloseReason, OpenError, Operation};
pub use pool::BufferPool;
pub use slots::{ConnId, ListenerId, SlotId, Slots};
pub(crate) use transport::LINGER;
pub use transport::{
    Caps, Close, ConnectOptions, Cost, Event, ListenOptions, Park, Port, SendError, Transport,
    TxQueue,
};
