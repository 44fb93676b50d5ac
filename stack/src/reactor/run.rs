//! A reactor on a thread of its own: spin, then sleep until something can have happened.

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use msgr_transport::Park;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::set_current_timer_slack;

use super::Reactor;

/// To sleep and to be woken takes some 7 us by itself: for less than this, others are only let pass.
const SHORTEST_NAP: Duration = Duration::from_micros(20);
/// So many idle turns go by one reading of the clock, which takes a third of such a turn.
const TURNS_PER_READING: u32 = 16;

impl Reactor {
    /// Turns until shut down.
    pub(crate) fn run(mut self, number: usize) {
        let spin = self.core.settings().spin;
        if let Some(core) = self.core.settings().cores.get(number) {
            pin_to(*core);
        }
        // Naps are as short as they are meant to be. Linux would make each up to 50 us longer
        // (`PR_SET_TIMERSLACK`, prctl(2)).
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        let mut now = Instant::now();
        let mut busy_at = now;
        let mut turns = 0;
        loop {
            if turns == TURNS_PER_READING {
                now = Instant::now();
                turns = 0;
            }
            turns += 1;
            let was_finished = self.is_finished(now);
            let busy = self.turn(now);
            if self.is_finished(now) {
                // One more turn hands over what the last connections left to the transport. An
                // idle one may never come: a port is busy with frames that are for others too.
                if was_finished {
                    return;
                }
            } else if busy {
                busy_at = now;
                turns = TURNS_PER_READING;
            } else if now.duration_since(busy_at) < spin {
                std::hint::spin_loop();
            } else {
                self.sleep(now);
                turns = TURNS_PER_READING;
            }
        }
    }

    /// Sleeps until the inbox or the transport has something, or the next timeout.
    fn sleep(&mut self, now: Instant) {
        let next = self
            .next_timeout()
            .map(|at| at.saturating_duration_since(now));
        if self.inbox.prepare_sleep() {
            let doorbell = PollFd::from_borrowed_fd(self.inbox.doorbell(), PollFlags::IN);
            match self.core.transport.park() {
                Park::Busy => {}
                Park::Fd(fd) => {
                    let transport = PollFd::from_borrowed_fd(fd, PollFlags::IN);
                    wait(&mut [doorbell, transport], next);
                }
                Park::Nap(longest) => {
                    let nap = next.map_or(longest, |next| next.min(longest));
                    if nap < SHORTEST_NAP {
                        thread::yield_now();
                    } else {
                        wait(&mut [doorbell], Some(nap));
                    }
                }
            }
            self.core.transport.unpark();
        }
        self.inbox.awake();
    }
}

/// An interrupted wait is a short one.
fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let _ = poll(fds, timeout.as_ref());
}

/// Best effort: a container may not own the core that was asked for.
fn pin_to(core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
        tracing::warn!("cannot pin a reactor to core {core}: {error}");
    }
}
