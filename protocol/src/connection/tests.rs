//! Connections against each other, and against scripted peers that break the rules one at a time.

mod acks;
mod bad_bytes;
mod bad_peers;
mod compression;
mod decisions;
mod established;
mod fault_table;
mod features;
mod handshake;
mod pair;
mod payloads;
mod peers;
mod reactions;
mod script;
mod secure;
mod sessions;
mod stale;
mod unexpected;
