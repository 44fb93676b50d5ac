//! [`Malformed`]: why bytes are not the value that they should be.

/// Bytes are not the value that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end too early.
    #[error("{what}: {needed} bytes needed, {left} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that there are.
        left: usize,
    },
    /// A list or blob is longer than any sane peer would make it.
    #[error("{what}: {count}, the limit is {limit}")]
    TooMany {
        /// What was being read.
        what: &'static str,
        /// Announced elements or bytes.
        count: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// A list must not be empty.
    #[error("{what}: empty")]
    Empty {
        /// What was being read.
        what: &'static str,
    },
    /// A field has a value that says nothing.
    #[error("{what}: unknown value {value}")]
    UnknownValue {
        /// What was being read.
        what: &'static str,
        /// As received.
        value: u64,
    },
    /// A text is not UTF-8.
    #[error("{what}: not UTF-8")]
    NotUtf8 {
        /// What was being read.
        what: &'static str,
    },
}
