//! Established connections in secure mode: frames are sealed in the order in which they leave, what
//! was sealed is not taken back, and nonces run out.

use super::pair::{Chop, Pair};
use super::script::{STAMP, client_config, numbered, server_config, transmitted};
use crate::auth::ConnectionSecret;
use crate::config::{Config, PerPeer};
use crate::connection::{AfterFault, Event, Ticket};
use crate::error::Cause;
use crate::frame::TxQueue;
use crate::message::Message;
use crate::policy::Policy;

fn with(mut config: Config, policy: Policy) -> Config {
    config.policies = PerPeer::new(policy);
    config
}

/// A lossless session, encrypted from here on.
fn sealed() -> Pair {
    let client = with(client_config(), Policy::LOSSLESS_CLIENT);
    let mut pair = Pair::ready(client, with(server_config(), Policy::STATEFUL_SERVER));
    let secret = ConnectionSecret::from_slice(&[7; ConnectionSecret::LEN]).unwrap();
    pair.client.connection.stream.secure(&secret);
    pair.server.connection.stream.secure(&secret);
    pair
}

fn message(len: usize) -> Message {
    Message {
        data: vec![7; len].into(),
        ..numbered(0)
    }
}

#[test]
fn frames_are_sealed_in_the_order_in_which_they_leave() {
    for chop in [1, 7, 96, 1000, usize::MAX].map(Chop::Every) {
        let mut pair = sealed();
        for round in 0..3 {
            // Control frames are sealed at once, messages and acknowledgements when they leave, and
            // the answer to what arrives in the meantime comes between.
            for len in [0, 10, 5000] {
                pair.client.connection.send(message(len)).unwrap();
                pair.server.connection.send(message(len + 1)).unwrap();
                pair.client.connection.keepalive(STAMP);
            }
            pair.settle(chop);
            for (side, more) in [(&mut pair.server, 0), (&mut pair.client, 1)] {
                assert!(side.error.is_none(), "{:?} in round {round}", side.error);
                let told = std::mem::take(&mut side.events);
                let lens = told.messages.iter().map(|message| message.data.len());
                assert!(lens.eq([0, 10, 5000].map(|len| len + more)));
                assert_eq!(told.len(), 3 + 3 * more, "answers to questions besides");
            }
            assert!(pair.client.connection.is_settled());
            assert!(pair.server.connection.is_settled());
        }
    }
}

#[test]
fn what_was_sealed_is_not_taken_back() {
    let mut pair = sealed();
    let ticket = Ticket::new(1).unwrap();
    let client = &mut pair.client.connection;
    client.queue(&mut message(100), Some(ticket)).unwrap();
    let sealed = transmitted(client);
    let mut unsent = TxQueue::from([sealed.clone().into()]);
    assert!(!client.cancel(ticket, &mut unsent));
    assert_eq!(unsent.make_contiguous().concat(), sealed, "as it was");

    // One that was not laid out yet leaves no trace.
    let other = Ticket::new(2).unwrap();
    client.queue(&mut message(100), Some(other)).unwrap();
    assert!(client.cancel(other, &mut unsent));
    client.send(message(5)).unwrap();
    let next = transmitted(client);
    let told = super::script::feed(&mut pair.server.connection, &[sealed, next].concat()).unwrap();
    assert_eq!(told, [Event::Message, Event::Message]);
    let lens = told.messages.iter().map(|message| message.data.len());
    assert!(lens.eq([100, 5]));
}

#[test]
fn a_stream_without_nonces_ends_and_the_session_does_not() {
    let mut pair = sealed();
    let client = &mut pair.client.connection;
    client.stream.assembler.exhaust();
    client.send(message(5)).unwrap();
    client.keepalive(STAMP);
    assert_eq!(transmitted(client), []);
    assert_eq!(client.poll().unwrap_err().cause, Cause::OutOfNonces);
    assert_eq!(client.poll().unwrap(), None);
    assert_eq!(client.disconnect().1, AfterFault::Reconnect);
    assert_eq!(client.counts().queued, 1, "for the next stream");
}
