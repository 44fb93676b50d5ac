//! [`Sights`]: which interesting cases a check has come across, so that it cannot be empty.

use std::fmt;

use msgr_protocol::wire::Tag;
use msgr_protocol::{Meeting, State};

/// An interesting case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    /// `CLIENT_IDENT` met an attempt of ours, which won: WAIT was sent.
    ConnectRaceWon,
    /// It met one, which lost.
    ConnectRaceLost,
    /// `SESSION_RECONNECT` met an attempt of ours, which won: WAIT was sent.
    ReconnectRaceWon,
    /// It met one, which lost.
    ReconnectRaceLost,
    /// A node received WAIT.
    ToldToWait,
    /// `SESSION_RETRY` was sent.
    Retry,
    /// `SESSION_RETRY_GLOBAL` was sent.
    RetryGlobal,
    /// `SESSION_RESET` was sent.
    Reset,
    /// It was sent while the session was being opened by ourselves.
    Outrun,
    /// A request was too late to be answered.
    Stale,
    /// A request that takes back what was acknowledged since was refused.
    Outdated,
    /// A peer came back to a session that it did not know to be open.
    OpenedAgain,
    /// A session was resumed.
    Resumed,
    /// A message was sent again.
    Replay,
    /// A message arrived again, and was discarded.
    Duplicate,
    /// A frame arrived after its sender had left the stream.
    LateFrame,
    /// A session without a stream waited for work, or for the peer.
    Standby,
}

impl Sight {
    pub(crate) const ALL: [Self; 17] = [
        Self::ConnectRaceWon,
        Self::ConnectRaceLost,
        Self::ReconnectRaceWon,
        Self::ReconnectRaceLost,
        Self::ToldToWait,
        Self::Retry,
        Self::RetryGlobal,
        Self::Reset,
        Self::Outrun,
        Self::Stale,
        Self::Outdated,
        Self::OpenedAgain,
        Self::Resumed,
        Self::Replay,
        Self::Duplicate,
        Self::LateFrame,
        Self::Standby,
    ];
}

/// A set of sights.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sights(u32);

impl Sights {
    pub(crate) fn add(&mut self, sight: Sight) {
        self.0 |= 1 << sight as u32;
    }

    pub(crate) fn add_if(&mut self, seen: bool, sight: Sight) {
        if seen {
            self.add(sight);
        }
    }

    pub(crate) fn has(self, sight: Sight) -> bool {
        self.0 & 1 << sight as u32 != 0
    }

    fn iter(self) -> impl Iterator<Item = Sight> {
        Sight::ALL.into_iter().filter(move |sight| self.has(*sight))
    }

    /// A request, which `tag` brought to a session in state `before`, was answered.
    pub(crate) fn add_meeting(&mut self, outcome: Meeting, tag: Tag, before: Option<State>) {
        let opens = tag == Tag::ClientIdent;
        let racing = before.is_some_and(State::is_connecting);
        match outcome {
            Meeting::Waits if opens => self.add(Sight::ConnectRaceWon),
            Meeting::Waits => self.add(Sight::ReconnectRaceWon),
            Meeting::TakenOver { .. } if racing && opens => self.add(Sight::ConnectRaceLost),
            Meeting::TakenOver { .. } if racing => self.add(Sight::ReconnectRaceLost),
            Meeting::TakenOver { .. } if opens => self.add(Sight::OpenedAgain),
            Meeting::TakenOver { .. } => self.add(Sight::Resumed),
            Meeting::Outrun => self.add(Sight::Outrun),
            Meeting::Stale => self.add(Sight::Stale),
            Meeting::Opened | Meeting::AsksAgain => {}
        }
    }

    /// A frame was sent.
    pub(crate) fn add_sent(&mut self, tag: Tag) {
        match tag {
            Tag::SessionRetry => self.add(Sight::Retry),
            Tag::SessionRetryGlobal => self.add(Sight::RetryGlobal),
            Tag::SessionReset => self.add(Sight::Reset),
            _ => {}
        }
    }
}

impl fmt::Debug for Sights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
