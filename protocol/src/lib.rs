//! Ceph's messenger v2 protocol (msgr2) as a value: bytes in, bytes and events out.
//!
//! [`Connection`] is one byte stream to one peer: it is fed received bytes, polled for [`Event`]s,
//! and asked for bytes to transmit. [`frame`] cuts streams into frames and back, [`wire`] knows
//! every layout inside them. There are no sockets, clocks, threads or random numbers in this
//! crate; payloads are never copied on their way in.
//!
//! The protocol is specified in Ceph's `doc/dev/msgr2.rst`.

#![forbid(unsafe_code)]

pub mod auth;
pub mod cephx;
pub mod compression;
mod config;
mod connection;
mod crc;
mod error;
pub mod frame;
mod message;
mod payload;
mod peer;
mod policy;
pub mod wire;

pub use config::{CompressionConfig, Config, FeaturePair, PerPeer};
pub use connection::{
    AfterFault, Connection, Event, Meeting, Opening, SessionCounts, State, Ticket,
};
pub use error::{ApiMisuse, Cause, ConnectionError, Malformed, PeerIncompatible, PeerMisbehaved};
pub use frame::{Blocks, FrameWriter, HeapBlocks, Limits, TxQueue};
pub use message::{HEADER_LEN, Header, Message, priority};
pub use payload::Payload;
pub use peer::{Peer, Principal};
pub use policy::{Policy, UnknownPolicy};
pub use wire::{
    AddrType, AuthName, EntityAddr, EntityAddrVec, EntityName, EntityType, Features, Mode,
    Timestamp,
};
