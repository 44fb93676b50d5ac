//! One function per fuzz target. Each takes arbitrary bytes and panics if the transport breaks a
//! promise on them.
//!
//! `fuzz_targets/` hands them to libFuzzer; `transport/tests/corpus.rs` compiles them again, with
//! the stable compiler, and replays the corpus.

mod demultiplexer;
mod frames;
mod input;
mod link_input;
mod port;
mod side_channel;

pub use demultiplexer::demultiplexer;
pub use link_input::link_input;
pub use side_channel::side_channel;
