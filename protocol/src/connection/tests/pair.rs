//! [`Pair`]: two connections to each other, whose bytes are moved by hand.

use super::script::{Told, acceptor, connector, feed, transmitted};
use crate::config::Config;
use crate::connection::{Connection, Event};
use crate::error::ConnectionError;

/// One end, and all that it told.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) connection: Connection,
    pub(super) events: Told,
    pub(super) error: Option<ConnectionError>,
    /// All bytes that it ever got.
    received: usize,
}

/// How the bytes of one direction are cut into pieces.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chop {
    /// Into pieces of this size.
    Every(usize),
    /// Once, behind so many bytes from the start of the connection.
    At(usize),
}

impl Chop {
    pub(super) const WHOLE: Self = Self::Every(usize::MAX);

    fn pieces(self, before: usize, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Every(size) => bytes.chunks(size).collect(),
            Self::At(at) if (before + 1..before + bytes.len()).contains(&at) => {
                let (head, tail) = bytes.split_at(at - before);
                vec![head, tail]
            }
            Self::At(_) => vec![bytes],
        }
    }
}

impl Side {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            events: Told::default(),
            error: None,
            received: 0,
        }
    }

    fn receive(&mut self, bytes: &[u8], chop: Chop) {
        for piece in chop.pieces(self.received, bytes) {
            match feed(&mut self.connection, piece) {
                Ok(told) => self.events.extend(told),
                Err(error) => self.error = Some(error),
            }
        }
        self.received += bytes.len();
    }
}

/// A client and a server.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: Side,
    pub(super) server: Side,
}

impl Pair {
    pub(super) fn new(client: Config, server: Config) -> Self {
        Self {
            client: Side::new(connector(client)),
            server: Side::new(acceptor(server)),
        }
    }

    /// Two ends that have become ready, and told nothing else.
    pub(super) fn ready(client: Config, server: Config) -> Self {
        let mut pair = Self::new(client, server);
        pair.settle(Chop::WHOLE);
        for side in [&mut pair.client, &mut pair.server] {
            assert_eq!(std::mem::take(&mut side.events), [Event::Ready]);
        }
        pair
    }

    /// What both have to say crosses on its way, and arrives. Returns it, the client's first.
    pub(super) fn flight(&mut self, chop: Chop) -> [Vec<u8>; 2] {
        let sent =
            [&mut self.client, &mut self.server].map(|side| transmitted(&mut side.connection));
        self.server.receive(&sent[0], chop);
        self.client.receive(&sent[1], chop);
        sent
    }

    /// Flights until there is nothing left to say. Returns all bytes sent, the client's first.
    pub(super) fn settle(&mut self, chop: Chop) -> [Vec<u8>; 2] {
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..100 {
            let sent = self.flight(chop);
            if sent.iter().all(Vec::is_empty) {
                return all;
            }
            for (all, sent) in all.iter_mut().zip(sent) {
                all.extend(sent);
            }
        }
        panic!("they never stop talking");
    }
}
