//! [`Raw`]: the control, a request and reply loop over a TCP socket as one would write it by hand
//! for just this purpose. Messages of a length that both ends know, no framing, no checksums; one
//! write answers all that one read has brought. It waits like the reactors do: it looks for more
//! for a while, then sleeps.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::case::{Case, RECEIPT};
use super::contender::{Contender, GRACE, Meter, Sample};
use super::threads::{Threads, pin_to};
use super::window::Window;

/// A sleep ends by itself after this long, to see whether the turn is over.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// The two ends of a TCP connection.
#[derive(Debug)]
pub(super) struct Raw {
    client: TcpStream,
    server: TcpStream,
    threads: Threads,
}

impl Raw {
    pub(super) fn new(threads: Threads) -> anyhow::Result<Self> {
        Self::connect(threads).context("raw TCP: set up a connection over the loopback")
    }

    fn connect(threads: Threads) -> io::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").or_else(|_| TcpListener::bind("[::1]:0"))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
        }
        Ok(Self {
            client,
            server,
            threads,
        })
    }
}

impl Contender for Raw {
    fn name(&self) -> &'static str {
        "raw TCP"
    }

    fn run(&mut self, case: Case, duration: Duration) -> anyhow::Result<Sample> {
        let over = AtomicBool::new(false);
        let (sample, served) = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                self.threads.server.into_iter().for_each(pin_to);
                serve(&self.server, case, self.threads.spin, &over)
            });
            let client = scope.spawn(|| {
                self.threads.client.into_iter().for_each(pin_to);
                request(&self.client, case, (duration, self.threads.spin))
            });
            let sample = client.join();
            over.store(true, Ordering::Relaxed);
            (sample, server.join())
        });
        let served = served.map_err(|_| anyhow!("the server panicked"))??;
        let sample = sample.map_err(|_| anyhow!("the client panicked"))??;
        ensure!(
            served == sample.replies,
            "{served} requests were answered, {} replies came",
            sample.replies
        );
        Ok(sample)
    }
}

/// The client's end for one turn.
fn request(
    socket: &TcpStream,
    case: Case,
    (duration, spin): (Duration, Duration),
) -> anyhow::Result<Sample> {
    let mut requests = Window::new(case.size);
    let mut replies = Window::new(if case.is_echo() { case.size } else { RECEIPT });
    let start = Instant::now();
    let give_up = start + duration + GRACE;
    let mut meter = Meter::new(case, start, duration);
    let mut idle = Idle { spin, since: None };
    let (mut issued, mut answered) = (0, 0);
    // How many requests may be issued, in all.
    let mut allowed = case.depth as u64;
    loop {
        while issued < allowed && requests.push(issued) {
            issued += 1;
        }
        let mut busy = requests.send(socket)? > 0;
        if replies.receive(socket)? > 0 {
            busy = true;
            let now = Instant::now();
            let over = meter.is_over(now);
            while let Some(tid) = replies.pop() {
                ensure!(
                    tid == answered,
                    "reply {answered} was due, reply {tid} came"
                );
                answered += 1;
                meter.reply(now);
                allowed += u64::from(!over);
            }
            if over {
                allowed = issued;
            }
            if answered == allowed {
                return Ok(meter.sample());
            }
        }
        if busy {
            idle.since = None;
        } else {
            let now = idle.wait(socket, requests.is_due())?;
            if now > give_up {
                bail!("{answered} of {issued} requests were answered in time");
            }
        }
    }
}

/// The server's end until the turn is `over`; returns how many requests it has answered.
fn serve(socket: &TcpStream, case: Case, spin: Duration, over: &AtomicBool) -> io::Result<u64> {
    let mut requests = Window::new(case.size);
    let mut receipts = Window::new(RECEIPT);
    let mut idle = Idle { spin, since: None };
    let mut sent = 0;
    loop {
        let mut busy = requests.receive(socket)? > 0;
        // What is to be echoed goes out from where it came in.
        let answers = if case.is_echo() {
            &mut requests
        } else {
            while !receipts.is_full()
                && let Some(tid) = requests.pop()
            {
                receipts.push(tid);
            }
            &mut receipts
        };
        let sent_now = answers.send(socket)?;
        let unsent = answers.is_due();
        sent += sent_now;
        busy |= sent_now > 0;
        if busy {
            idle.since = None;
        } else if over.load(Ordering::Relaxed) {
            let len = if case.is_echo() { case.size } else { RECEIPT };
            return Ok((sent / len) as u64);
        } else {
            idle.wait(socket, unsent)?;
        }
    }
}

/// Since when nothing has happened, and how long to look for more.
#[derive(Debug)]
struct Idle {
    spin: Duration,
    since: Option<Instant>,
}

impl Idle {
    /// Nothing happened again: returns at once for a while, then sleeps until something can.
    fn wait(&mut self, socket: &TcpStream, unsent: bool) -> io::Result<Instant> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if now - since >= self.spin {
            let flags = if unsent {
                PollFlags::IN | PollFlags::OUT
            } else {
                PollFlags::IN
            };
            match poll(&mut [PollFd::new(socket, flags)], Some(&NAP)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.since = None;
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::{CASES, Kind};
    use super::*;

    /// Turns follow one another on the same connection; `run` itself compares what was answered
    /// with what has come.
    #[test]
    fn every_case_gives_a_sample() {
        let mut raw = Raw::new(Threads::default()).unwrap();
        for case in CASES {
            let sample = raw.run(case, Duration::from_millis(30)).unwrap();
            // However slow the host, there is one to count from and one that counts.
            assert!(
                sample.figure > 0.0 && sample.replies >= 2,
                "{case}: {sample:?}"
            );
        }
    }

    #[test]
    fn a_reply_out_of_order_is_an_error() {
        let raw = Raw::new(Threads::default()).unwrap();
        let case = Case {
            kind: Kind::Rate,
            size: 64,
            depth: 2,
        };
        let mut replies = Window::new(64);
        assert!(replies.push(1) && replies.send(&raw.server).unwrap() == 64);
        let error =
            request(&raw.client, case, (Duration::from_secs(1), Duration::ZERO)).unwrap_err();
        assert_eq!(error.to_string(), "reply 0 was due, reply 1 came");
    }

    #[test]
    fn a_server_that_hangs_up_is_an_error() {
        let Raw { client, server, .. } = Raw::new(Threads::default()).unwrap();
        drop(server);
        let case = Case {
            kind: Kind::Rate,
            size: 64,
            depth: 2,
        };
        request(&client, case, (Duration::from_secs(1), Duration::ZERO)).unwrap_err();
    }
}
