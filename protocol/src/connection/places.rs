//! [`Places`]: where messages were that are gone, for those to come. A message is large, and to move it
//! costs as much as to lay it out; so it stays in one place while it waits.

use std::fmt;

use super::out_queue::Outgoing;

/// So many are kept.
const MOST: usize = 1024;

/// What is in there means nothing: no copy has it, and it does not show.
#[derive(Default)]
#[allow(clippy::vec_box)] // The boxes are what is kept.
pub(super) struct Places(Vec<Box<Outgoing>>);

impl Places {
    /// A place for a message without payloads, whose header and ticket are somebody else's still.
    #[inline]
    pub(super) fn take(&mut self) -> Box<Outgoing> {
        self.0.pop().unwrap_or_default()
    }

    /// Drops a message, and keeps its place.
    #[inline]
    pub(super) fn give(&mut self, mut outgoing: Box<Outgoing>) {
        if self.0.len() < MOST {
            outgoing.message.clear();
            outgoing.taken_back = false;
            self.0.push(outgoing);
        }
    }
}

impl Clone for Places {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places")
    }
}
