//! [`Steering`]: what the endpoints at the queues of one port have in common. Together they are one
//! host: its ports are taken from all of them, and each of its connections is at one. What a queue
//! gets for another goes there through a bounded queue without locks.
//!
//! New connections are where their hash says, which is where a port with receive-side scaling puts
//! their segments. The hash is not asked for a segment whose connection is known where it arrives.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use super::doorbell::Doorbell;
use super::names::overlap;
use super::rss::{self, MOST_QUEUES};
use super::segment::{Ends, Segment};
use crate::{Park, Port};

/// The most frames that wait to be taken over by one queue. More are dropped, as by a port.
const ROOM: usize = 1024;
/// How long to sleep if nothing can wake us.
const NAP: Duration = Duration::from_millis(1);

/// The part that one endpoint has in a host with several. `F` is the frame of the device.
pub struct Steering<F> {
    host: Arc<Host<F>>,
    queue: usize,
    /// Queues that were given something and not yet woken, a bit for each.
    given: u64,
    counters: SteeringCounters,
    /// What sleeps on the device and the doorbell at once.
    sleep: Option<OwnedFd>,
}

/// What an endpoint has given to the others of its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SteeringCounters {
    /// Frames handed over to the queue that their connection is at.
    pub handed_over: u64,
    /// Frames that found no room there, and were dropped.
    pub dropped: u64,
}

struct Host<F> {
    names: Mutex<Names>,
    queues: Box<[Inbox<F>]>,
}

struct Inbox<F> {
    frames: ArrayQueue<Handed<F>>,
    bell: Doorbell,
}

/// What one queue gets from another.
pub(super) enum Handed<F> {
    /// A packet to take in, and where in its frame it is.
    Packet(F, Range<usize>),
    /// A copy of a frame that tells where neighbours are.
    Neighbours(Box<[u8]>),
}

/// Who has what.
#[derive(Debug, Default)]
struct Names {
    /// The listeners at each port, with the queues that they are at.
    listeners: HashMap<u16, Vec<(SocketAddr, usize)>>,
    /// The queue of each connection.
    connections: HashMap<Ends, usize>,
}

impl<F> Steering<F> {
    /// One for each queue of a port, in order; at least 1 queue, at most 64.
    pub fn new(queues: usize) -> Vec<Self> {
        let queues = queues.clamp(1, MOST_QUEUES);
        let inbox = |_| Inbox {
            frames: ArrayQueue::new(ROOM),
            bell: Doorbell::new(),
        };
        let host = Arc::new(Host {
            names: Mutex::default(),
            queues: (0..queues).map(inbox).collect(),
        });
        let steering = |queue| Self {
            host: Arc::clone(&host),
            queue,
            given: 0,
            counters: SteeringCounters::default(),
            sleep: sleep(&host.queues[queue].bell).ok(),
        };
        (0..queues).map(steering).collect()
    }

    /// Whether there is anybody to share the port with.
    pub(super) fn has_others(&self) -> bool {
        self.host.queues.len() > 1
    }

    pub(super) fn counters(&self) -> SteeringCounters {
        self.counters
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // No invariant spans a panic here.
        let names = self.host.names.lock();
        names.unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_of(&self, ends: &Ends) -> usize {
        rss::queue(ends, self.host.queues.len())
    }

    /// Has a listener of ours at `at`, if nobody else's is in the way.
    pub(super) fn listen(&self, at: SocketAddr, port: Port) -> io::Result<()> {
        let mut names = self.names();
        let there = names.listeners.entry(at.port()).or_default();
        let joined = |other| port == Port::Join && other == at;
        if there
            .iter()
            .any(|&(other, _)| overlap(other.ip(), at.ip()) && !joined(other))
        {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        there.push((at, self.queue));
        Ok(())
    }

    pub(super) fn unlisten(&self, at: SocketAddr) {
        let mut names = self.names();
        if let Some(there) = names.listeners.get_mut(&at.port()) {
            let ours = there.iter().position(|one| *one == (at, self.queue));
            ours.map(|ours| there.swap_remove(ours));
            if there.is_empty() {
                names.listeners.remove(&at.port());
            }
        }
    }

    /// Whether nobody listens at a port.
    pub(super) fn is_free(&self, port: u16) -> bool {
        !self.names().listeners.contains_key(&port)
    }

    /// Whether a connection of ours may originate from this end: others listen there, but we do not.
    pub(super) fn is_foreign(&self, local: SocketAddr) -> bool {
        let names = self.names();
        let mut there = names.listening(local).peekable();
        there.peek().is_some() && there.all(|queue| queue != self.queue)
    }

    /// Whether a port was well chosen for a connection: segments from the peer come to us. Those
    /// from ourselves do not come through the device, so they are no reason.
    pub(super) fn suits(&self, ends: &Ends, is_local: bool) -> bool {
        (is_local || self.queue_of(ends) == self.queue) && self.is_free(ends.local.port())
    }

    /// Has a connection be ours, unless there is one.
    pub(super) fn claim(&self, ends: Ends) -> bool {
        let mut names = self.names();
        let is_new = !names.connections.contains_key(&ends);
        if is_new {
            names.connections.insert(ends, self.queue);
        }
        is_new
    }

    /// Whether there is no such connection at any queue.
    pub(super) fn is_unclaimed(&self, ends: &Ends) -> bool {
        !self.names().connections.contains_key(ends)
    }

    pub(super) fn release(&self, ends: &Ends) {
        self.names().connections.remove(ends);
    }

    /// Which other queue a segment is for whose connection is not known here. The queue that it
    /// hashes to decides; what that hands on, or what was `handed` to us, is ours.
    pub(super) fn other_owner(&self, segment: &Segment, handed: bool) -> Option<usize> {
        let queue = self.queue_of(&segment.ends);
        if queue != self.queue {
            return (!handed).then_some(queue);
        }
        let names = self.names();
        let owner = match names.connections.get(&segment.ends) {
            Some(&owner) => owner,
            None if segment.opens() => {
                let mut there = names.listening(segment.ends.local);
                if there.any(|queue| queue == self.queue) {
                    return None;
                }
                names.listening(segment.ends.local).next()?
            }
            None => return None,
        };
        (owner != self.queue).then_some(owner)
    }

    /// Gives a packet to another queue.
    pub(super) fn hand_over(&mut self, queue: usize, frame: F, packet: Range<usize>) {
        if self.give(queue, Handed::Packet(frame, packet)) {
            self.counters.handed_over += 1;
        } else {
            self.counters.dropped += 1;
        }
    }

    /// Lets all others know what a frame says about neighbours.
    pub(super) fn tell(&mut self, frame: &[u8]) {
        let (own, all) = (self.queue, self.host.queues.len());
        for queue in (0..all).filter(|&queue| queue != own) {
            // If there is no room, they ask themselves.
            self.give(queue, Handed::Neighbours(frame.into()));
        }
    }

    fn give(&mut self, queue: usize, what: Handed<F>) -> bool {
        self.given |= 1 << queue;
        self.host.queues[queue].frames.push(what).is_ok()
    }

    /// Wakes those who were given something. Returns how many system calls that took.
    pub(super) fn wake(&mut self) -> u64 {
        let mut calls = 0;
        while self.given != 0 {
            let queue = self.given.trailing_zeros() as usize;
            self.given &= self.given - 1;
            calls += u64::from(self.host.queues[queue].bell.ring());
        }
        calls
    }

    /// The next thing that another queue has given us.
    pub(super) fn take(&self) -> Option<Handed<F>> {
        self.host.queues[self.queue].frames.pop()
    }

    /// Prepares to sleep until something comes, from another queue or the device.
    pub(super) fn park<'a>(&'a self, device: Park<'a>) -> Park<'a> {
        let Inbox { frames, bell } = &self.host.queues[self.queue];
        bell.park();
        if !frames.is_empty() {
            return Park::Busy;
        }
        match (device, &self.sleep) {
            (Park::Fd(device), Some(sleep)) => match watch(sleep, device) {
                Ok(()) => Park::Fd(sleep.as_fd()),
                Err(_) => Park::Nap(NAP),
            },
            (Park::Fd(_), None) => Park::Nap(NAP),
            (device, _) => device,
        }
    }

    /// Ends what [`park`](Self::park) began. Returns whether that took a system call.
    pub(super) fn unpark(&self) -> bool {
        self.host.queues[self.queue].bell.unpark()
    }
}

impl<F> Drop for Steering<F> {
    fn drop(&mut self) {
        let mut names = self.names();
        names.connections.retain(|_, queue| *queue != self.queue);
        names.listeners.retain(|_, there| {
            there.retain(|(_, queue)| *queue != self.queue);
            !there.is_empty()
        });
        drop(names);
        while self.take().is_some() {}
    }
}

impl Names {
    /// The queues at which somebody listens at `local`.
    fn listening(&self, local: SocketAddr) -> impl Iterator<Item = usize> {
        let there = self.listeners.get(&local.port()).into_iter().flatten();
        let there = there.filter(move |(at, _)| overlap(at.ip(), local.ip()));
        there.map(|&(_, queue)| queue)
    }
}

fn sleep(bell: &Doorbell) -> rustix::io::Result<OwnedFd> {
    let sleep = epoll::create(CreateFlags::CLOEXEC)?;
    let bell = bell.descriptor().ok_or(rustix::io::Errno::MFILE)?;
    watch(&sleep, bell)?;
    Ok(sleep)
}

/// Has `sleep` end also when this is readable. A driver may have closed it since the last time.
fn watch(sleep: &OwnedFd, device: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match epoll::add(sleep, device, EventData::new_u64(0), EventFlags::IN) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

    use super::*;

    fn is_readable(fd: BorrowedFd<'_>) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())) == Ok(1)
    }

    /// Whether who goes to sleep now is awake at once.
    fn is_busy(steering: &Steering<u8>, device: BorrowedFd<'_>) -> bool {
        let park = steering.park(Park::Fd(device));
        let is_busy = match park {
            Park::Busy => true,
            Park::Fd(fd) => is_readable(fd),
            Park::Nap(_) => false,
        };
        steering.unpark();
        is_busy
    }

    #[test]
    fn a_sleeper_is_woken_by_the_device_and_by_others() {
        let [one, mut other] = Steering::<u8>::new(2).try_into().ok().expect("two");
        let device = eventfd(0, EventfdFlags::NONBLOCK).expect("a descriptor");
        for _ in 0..2 {
            assert!(!is_busy(&one, device.as_fd()));
            let Park::Fd(asleep) = one.park(Park::Fd(device.as_fd())) else {
                panic!("there are descriptors");
            };
            other.hand_over(0, 7, 0..1);
            assert!(!is_readable(asleep));
            assert_eq!(other.wake(), 1);
            assert!(is_readable(asleep));
            assert!(one.unpark());
            assert!(is_busy(&one, device.as_fd()), "it has not been taken");
            assert!(matches!(one.take(), Some(Handed::Packet(7, _))));
        }
        assert!(!is_busy(&one, device.as_fd()));
        assert_eq!(other.wake(), 0, "nothing is given");
        rustix::io::write(&device, &1_u64.to_ne_bytes()).expect("it has room");
        assert!(is_busy(&one, device.as_fd()));
    }

    #[test]
    fn names_are_those_of_the_host_until_their_owner_leaves() {
        let [one, other] = Steering::<u8>::new(2).try_into().ok().expect("two");
        let at: SocketAddr = "10.0.0.1:6800".parse().expect("an address");
        let ends = Ends {
            local: at,
            remote: "10.0.0.2:6800".parse().expect("an address"),
        };
        one.listen(at, Port::Take).expect("it is free");
        assert!(other.listen(at, Port::Take).is_err());
        assert!(other.is_foreign(at) && !one.is_foreign(at));
        assert!(one.claim(ends) && !other.claim(ends));
        drop(one);
        assert!(!other.is_foreign(at) && other.claim(ends));
        other.listen(at, Port::Take).expect("it is free again");
    }
}
