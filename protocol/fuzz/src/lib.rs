//! One function per fuzz target. Each takes arbitrary bytes and panics if the protocol breaks a
//! promise on them.
//!
//! `fuzz_targets/` hands them to libFuzzer; `protocol/tests/corpus.rs` compiles them again, with
//! the stable compiler, and replays the corpus.

mod acceptor;
mod cephx;
mod chop;
mod compression;
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
mod secure;
mod text;
mod wire;

pub use acceptor::acceptor;
pub use cephx::cephx;
pub use compression::compression;
pub use connector::connector;
pub use flood::flood;
pub use frames::frames;
pub use pair::pair;
pub use secure::secure;
pub use text::text;
pub use wire::wire;
