//! One function per fuzz target. Each takes arbitrary bytes and panics if the protocol breaks a
//! promise on them.
//!
//! `fuzz_targets/` hands them to libFuzzer; `protocol/tests/corpus.rs` compiles them again, with
//! the stable compiler, and replays the corpus.

mod acceptor;
mod chop;
mod connector;
mod driver;
mod expected;
mod flood;
mod frames;
mod input;
mod layout;
mod output;
mod pair;
mod script;
mod text;
mod wire;

pub use acceptor::acceptor;
pub use connector::connector;
pub use flood::flood;
pub use frames::frames;
pub use pair::pair;
pub use text::text;
pub use wire::wire;
