//! [`SharedPort`]: a port on which several transports of this process listen. The connection manager
//! knows one listener to a port; whoever has it hands every other connection on. Nothing here accepts
//! or declines anything.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{EventfdFlags, eventfd};

use super::cm::{CmId, EventChannel, PrivateData};

/// The ports on which anybody listens.
static PORTS: Mutex<Vec<(SocketAddr, Weak<SharedPort>)>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who listens on a port.
#[derive(Debug, Default)]
pub(super) struct SharedPort {
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    all: Vec<Arc<Mailbox>>,
    /// How many connections have come.
    count: usize,
}

/// What one who listens gets from the others.
#[derive(Debug)]
pub(super) struct Mailbox {
    channel: Arc<EventChannel>,
    letters: Mutex<VecDeque<Letter>>,
    /// Readable as long as there are letters.
    bell: OwnedFd,
}

#[derive(Debug)]
pub(super) enum Letter {
    /// Somebody connects.
    Request(CmId, PrivateData),
    /// From now on this is who listens, with that, if there is anything to listen on.
    Listen(Option<CmId>),
}

impl SharedPort {
    /// A port that nobody else of this process listens on.
    pub(super) fn take(at: SocketAddr, member: &Arc<Mailbox>) -> Arc<Self> {
        let port = Arc::new(Self::default());
        lock(&port.members).all.push(Arc::clone(member));
        let mut ports = lock(&PORTS);
        ports.retain(|(_, port)| port.strong_count() > 0);
        ports.push((at, Arc::downgrade(&port)));
        port
    }

    /// The port that others of this process listen on, with one more from now on.
    pub(super) fn join(at: SocketAddr, member: &Arc<Mailbox>) -> Option<Arc<Self>> {
        let ports = lock(&PORTS);
        let mut known = ports.iter().filter(|(port, _)| *port == at);
        let port = known.find_map(|(_, port)| port.upgrade())?;
        let mut members = lock(&port.members);
        if members.all.is_empty() {
            return None;
        }
        members.all.push(Arc::clone(member));
        drop(members);
        Some(port)
    }

    /// Whose the next connection is.
    fn next(&self) -> Option<Arc<Mailbox>> {
        let mut members = lock(&self.members);
        members.count += 1;
        let index = members.count.checked_rem(members.all.len())?;
        members.all.get(index).cloned()
    }

    /// Hands a connection on, or gives it back to who asks: it is theirs.
    pub(super) fn hand_on(
        &self,
        mut id: CmId,
        data: PrivateData,
        own: &Arc<Mailbox>,
    ) -> Option<(CmId, PrivateData)> {
        let other = self.next().filter(|other| !Arc::ptr_eq(other, own));
        if let Some(other) = other
            && id.migrate(&other.channel).is_ok()
        {
            other.put(Letter::Request(id, data));
            return None;
        }
        Some((id, data))
    }

    /// One listens no more. If the manager's listener was theirs, it is another's now.
    pub(super) fn leave(&self, member: &Arc<Mailbox>, was_first: bool, id: Option<CmId>) {
        let mut members = lock(&self.members);
        members.all.retain(|one| !Arc::ptr_eq(one, member));
        if let Some(heir) = members.all.first().filter(|_| was_first) {
            // One that cannot be moved ends here; the heir begins another.
            let moved = id.and_then(|mut id| id.migrate(&heir.channel).is_ok().then_some(id));
            heir.put(Letter::Listen(moved));
        }
    }
}

impl Mailbox {
    pub(super) fn new(channel: &Arc<EventChannel>) -> io::Result<Arc<Self>> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self {
            channel: Arc::clone(channel),
            letters: Mutex::default(),
            bell,
        }))
    }

    fn put(&self, letter: Letter) {
        lock(&self.letters).push_back(letter);
        // It fails only when it is readable already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// All letters.
    pub(super) fn empty(&self) -> VecDeque<Letter> {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut lock(&self.letters))
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
