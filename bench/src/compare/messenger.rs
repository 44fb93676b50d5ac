//! [`Pair`]: two messengers over a transport, each with one reactor. Full msgr2 framing with
//! checksums, through the same calls that any application makes.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use msgr::{Connection, Context, Dispatcher, Fault, Messenger, Received};
use msgr_protocol::{EntityType, Message, Policy};

use super::case::Case;
use super::contender::{Contender, GRACE, Meter, Sample};
use super::protection::{Mode, Protection};
use super::server::{ECHO, SINK, Server, settings};
use super::threads::Threads;
use crate::transports::{End, Network};

/// The tid of the message that begins a turn.
const START: u64 = 0;
/// From this length on a request is data, not front: as Ceph carries what is read and written.
const DATA_FROM: usize = 4 << 10;

/// A client and a server.
pub(super) struct Pair {
    name: String,
    client: Messenger,
    server: Server,
    connection: Connection,
    turns: Sender<(Case, Duration)>,
    outcomes: Receiver<Outcome>,
}

/// What the client's dispatcher tells: that the connection is ready, or what a turn has shown.
type Outcome = Result<Option<Sample>, String>;

impl Pair {
    /// Sets up both on a network, and connects them.
    pub(super) fn new(
        name: &str,
        mode: Mode,
        threads: Threads,
        network: &Network,
    ) -> anyhow::Result<Self> {
        let protection = Protection::new(mode);
        let server = Server::start(network, threads, &protection)?;
        let (turns, due) = channel();
        let (tell, outcomes) = channel();
        let mut client = settings(
            EntityType::Client,
            Policy::LOSSY_CLIENT,
            (threads.client, threads.spin),
        );
        protection.apply(End::Client, &mut client.protocol);
        let mut dispatcher = Some(Client {
            turns: due,
            tell,
            turn: None,
        });
        let network = network.clone();
        let client = Messenger::start(
            client,
            move || network.open(End::Client),
            move |_| dispatcher.take().expect("there is one reactor"),
        )?;
        let connection = client.connect(EntityType::Osd, server.at)?;
        let name = match mode {
            Mode::Crc => name.to_owned(),
            Mode::NoDataCrc | Mode::Secure => format!("{name} {mode}"),
        };
        let mut pair = Self {
            name,
            client,
            server,
            connection,
            turns,
            outcomes,
        };
        if let Err(error) = pair.outcome(GRACE) {
            // Its threads would be in the way of the others.
            pair.finish();
            return Err(error.context("set up a connection"));
        }
        Ok(pair)
    }

    fn outcome(&self, within: Duration) -> anyhow::Result<Option<Sample>> {
        match self.outcomes.recv_timeout(within) {
            Ok(outcome) => outcome.map_err(|error| anyhow!(error)),
            Err(RecvTimeoutError::Timeout) => bail!("nothing came back in time"),
            Err(RecvTimeoutError::Disconnected) => bail!("the reactor is gone"),
        }
    }
}

impl Contender for Pair {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, case: Case, duration: Duration) -> anyhow::Result<Sample> {
        self.turns
            .send((case, duration))
            .context("the reactor is gone")?;
        let mut start = Message::new(SINK);
        start.header.tid = START;
        if let Err(error) = self.connection.send(start) {
            // Why it is closed is told, perhaps a moment after the handle shows that it is.
            self.outcome(GRACE)?;
            bail!(error);
        }
        let sample = self.outcome(duration + GRACE)?;
        sample.context("the connection became ready a second time")
    }

    fn finish(&mut self) {
        self.client.shutdown();
        self.server.finish();
    }
}

/// Makes the requests.
struct Client {
    turns: Receiver<(Case, Duration)>,
    tell: Sender<Outcome>,
    turn: Option<Turn>,
}

impl Client {
    fn tell(&self, outcome: Outcome) {
        // Nobody listens any more after a timeout.
        let _ = self.tell.send(outcome);
    }
}

impl Dispatcher for Client {
    fn connected(&mut self, _: &mut Context<'_>) {
        self.tell(Ok(None));
    }

    fn message(&mut self, context: &mut Context<'_>, reply: Received) {
        let outcome = match &mut self.turn {
            Some(turn) => turn.reply(context, &reply),
            None => match self.turns.try_recv() {
                Ok((case, duration)) => self.turn.insert(Turn::new(case, duration)).fill(context),
                Err(_) => Err(format!("reply {} came between two turns", reply.header.tid)),
            },
        };
        match outcome {
            Ok(()) => {
                if let Some(turn) = self.turn.take_if(|turn| turn.is_done()) {
                    self.tell(Ok(Some(turn.meter.sample())));
                }
            }
            Err(error) => {
                self.turn = None;
                self.tell(Err(error));
            }
        }
    }

    fn reset(&mut self, _: &Connection, fault: &Fault) {
        self.tell(Err(fault.to_string()));
    }
}

/// One turn, from the client's point of view.
struct Turn {
    case: Case,
    request: Message,
    reply_len: usize,
    meter: Meter,
    /// The last tid sent.
    sent: u64,
    /// The last tid answered.
    answered: u64,
    /// The last tid that may be sent.
    allowed: u64,
}

impl Turn {
    fn new(case: Case, duration: Duration) -> Self {
        let payload = Bytes::from(vec![0xa5; case.size]);
        let mut request = Message::new(if case.is_echo() { ECHO } else { SINK });
        if case.size < DATA_FROM {
            request.front = payload.into();
        } else {
            request.data = payload.into();
        }
        Self {
            case,
            request,
            reply_len: if case.is_echo() { case.size } else { 0 },
            meter: Meter::new(case, Instant::now(), duration),
            sent: START,
            answered: START,
            allowed: START + case.depth as u64,
        }
    }

    fn is_done(&self) -> bool {
        self.answered == self.allowed
    }

    /// Sends as much as may be under way.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        while self.sent < self.allowed {
            self.sent += 1;
            let mut request = self.request.clone();
            request.header.tid = self.sent;
            context.send(request).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn reply(&mut self, context: &mut Context<'_>, reply: &Message) -> Result<(), String> {
        let (due, tid, len) = (self.answered + 1, reply.header.tid, reply.payload_len());
        if tid != due || len != self.reply_len {
            let expected = self.reply_len;
            return Err(format!(
                "reply {due} of {expected} bytes was due, reply {tid} of {len} bytes came"
            ));
        }
        self.answered = tid;
        // Like the control, which looks at the clock once for all that a read has brought.
        let now = if self.case.depth == 1 {
            Instant::now()
        } else {
            context.now()
        };
        self.meter.reply(now);
        if self.meter.is_over(now) {
            self.allowed = self.sent;
        } else {
            self.allowed += 1;
        }
        self.fill(context)
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::CASES;
    use super::*;

    fn pair(name: &str) -> Pair {
        pair_in(Mode::Crc, name)
    }

    fn pair_in(mode: Mode, name: &str) -> Pair {
        let network = Network::new(name).unwrap();
        Pair::new(name, mode, Threads::default(), &network).unwrap()
    }

    fn turns(mut pair: Pair) {
        let mut replies = 0;
        for case in CASES {
            let sample = pair.run(case, Duration::from_millis(30)).unwrap();
            // However slow the host, there is one to count from and one that counts.
            assert!(
                sample.figure > 0.0 && sample.replies >= 2,
                "{case}: {sample:?}"
            );
            // Another message began the turn.
            replies += 1 + sample.replies;
        }
        let (client, server) = (pair.client.totals(), pair.server.totals().unwrap());
        assert_eq!(client.messages_received, replies);
        assert_eq!(client.messages_received, client.messages_sent);
        assert_eq!(client.messages_received, server.messages_sent);
        pair.finish();
    }

    #[test]
    fn every_case_gives_a_sample_over_posix() {
        turns(pair("posix"));
    }

    #[test]
    fn every_case_gives_a_sample_in_every_mode() {
        for (mode, name) in [
            (Mode::NoDataCrc, "posix no-data-crc"),
            (Mode::Secure, "posix secure"),
        ] {
            let pair = pair_in(mode, "posix");
            assert_eq!(pair.name, name);
            turns(pair);
        }
    }

    #[test]
    fn every_case_gives_a_sample_over_the_ring() {
        turns(pair("ring"));
    }

    #[test]
    fn every_case_gives_a_sample_over_the_wire() {
        turns(pair("wire"));
    }

    #[test]
    fn a_reply_that_does_not_come_is_an_error() {
        let mut pair = pair("ring");
        pair.server.finish();
        let error = pair.run(CASES[0], Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    }
}
