//! Connections against each other, and against scripted peers that break the rules one at a time.

mod bad_bytes;
mod bad_peers;
mod decisions;
mod established;
mod features;
mod handshake;
mod pair;
mod payloads;
mod reactions;
mod script;
mod unexpected;
