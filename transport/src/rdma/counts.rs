//! [`Counts`]: how often the device was troubled.

use std::ops::Add;

/// Counts of what a transport has asked its devices for. They only grow, but for devices that fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Work requests posted to send queues: sends, reads and probes.
    pub sends: u64,
    /// Those of them that say when they are over.
    pub signalled: u64,
    /// Receives posted.
    pub receives: u64,
    /// Calls that posted any of these.
    pub doorbells: u64,
    /// Looks at completion queues.
    pub polls: u64,
    /// What was found there.
    pub completions: u64,
    /// Times that a completion queue had to wake its reactor.
    pub events: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sends: self.sends + other.sends,
            signalled: self.signalled + other.signalled,
            receives: self.receives + other.receives,
            doorbells: self.doorbells + other.doorbells,
            polls: self.polls + other.polls,
            completions: self.completions + other.completions,
            events: self.events + other.events,
        }
    }
}
