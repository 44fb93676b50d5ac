//! Sessions of whole messengers: every policy, reconnects, races, restarts, on the simulated network
//! in virtual time and, where that makes sense, on real sockets.
//!
//! The scenarios are those that Ceph's own messenger is tested with (`src/test/msgr/test_msgr.cc`
//! and `src/test/crimson/test_messenger.cc`); each test says which one it is.

#![allow(clippy::unwrap_used)]

mod campaign;
mod ledger;
mod world;
