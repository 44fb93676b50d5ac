//! One bit of one payload is flipped on its way. Either somebody objects, or the ends have different
//! secrets, so that the connection's signatures do not match, or it is a bit that is listed here.
//!
//! That includes nothing that the signatures over the whole handshake would not find: they are not
//! part of this.

use std::collections::BTreeSet;
use std::ops::Range;

use super::*;

/// Which payload is altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Request,
    Challenge,
    Answer,
    Done,
}

/// A whole exchange, in which one payload may be altered.
struct Exchange {
    client: Cephx,
    server: Cephx,
    to: EntityType,
    mode: Mode,
}

impl Exchange {
    fn new(to: EntityType, mode: Mode) -> Self {
        let world = world();
        let (client, server) = (admin(&world), monitor(&world));
        if to == EntityType::Osd {
            meet(&client, &server, EntityType::Mon, Mode::Crc).unwrap();
        }
        Self {
            client,
            server,
            to,
            mode,
        }
    }

    /// Whether the ends agree in the end.
    fn run(&self, mut alter: impl FnMut(Leg, &mut [u8])) -> Result<bool, AuthError> {
        let mut on_its_way = |leg, payload: Bytes| {
            let mut payload = payload.to_vec();
            alter(leg, &mut payload);
            payload
        };
        let mut prover = prove(&self.client, self.to);
        let mut verifier = verify(&self.server, EntityType::Client);
        let request = on_its_way(Leg::Request, prover.request()?);
        let challenge = more(Ok(verifier.request(&request, self.mode)?));
        let challenge = on_its_way(Leg::Challenge, challenge);
        let answer = on_its_way(Leg::Answer, prover.more(&challenge)?);
        let admitted = admitted(verifier.more(&answer)?);
        let done = on_its_way(Leg::Done, admitted.payload);
        let secrets = prover.done(admitted.global_id, self.mode, &done)?;
        Ok(bytes(&secrets) == bytes(&admitted.secrets))
    }
}

/// The bytes of a payload in which a flipped bit goes unnoticed.
fn unnoticed(leg: Leg, to: EntityType, mode: Mode) -> BTreeSet<usize> {
    let mut len = 0;
    let whole = Exchange::new(to, mode).run(|at, payload| {
        if at == leg {
            len = payload.len();
        }
    });
    assert_eq!(whole, Ok(true));
    let flipped = |bit: &usize| {
        let outcome = Exchange::new(to, mode).run(|at, payload| {
            if at == leg {
                payload[bit / 8] ^= 1 << (bit % 8);
            }
        });
        outcome == Ok(true)
    };
    (0..len * 8).filter(flipped).map(|bit| bit / 8).collect()
}

/// Looks at every bit of every payload.
fn check(
    to: EntityType,
    mode: Mode,
    listed: &[(Leg, &[(usize, usize)])],
    by_chance: &Range<usize>,
) {
    for (leg, ranges) in listed {
        let mut found = unnoticed(*leg, to, mode);
        if *leg == Leg::Done {
            found.retain(|byte| !by_chance.contains(byte));
        }
        let listed: BTreeSet<_> = ranges.iter().flat_map(|(from, to)| *from..*to).collect();
        assert_eq!(found, listed, "{to} {mode:?} {leg:?}");
    }
}

#[test]
fn logins() {
    for (mode, others) in [(Mode::Crc, 210), (Mode::Secure, 274)] {
        let ticket = others + 67;
        let listed: [(_, &[_]); 4] = [
            // The global id that is claimed: who cannot prove it gets another.
            (Leg::Request, &[(14, 22)]),
            // Versions, here and below: later ones than we know are fine.
            (Leg::Challenge, &[(0, 1)]),
            // The old ticket: what cannot be opened is as none. Which tickets are wanted.
            (Leg::Answer, &[(2, 3), (19, 28), (32, 36)]),
            (
                Leg::Done,
                &[
                    (6, 7),
                    (15, 16),
                    // The new ticket, which only the monitor can read; it takes a shorter one for none.
                    (73, 83),
                    (86, 182),
                    // Other tickets: how many, what for (of unknown services they are left out).
                    (others, others + 2),
                    (others + 5, others + 10),
                    // And what only the service can read.
                    (ticket, ticket + 10),
                    (ticket + 13, ticket + 109),
                ],
            ),
        ];
        // In front of another ticket is how long it is valid, in a block of its own together with
        // padding, of which each value may make sense.
        check(EntityType::Mon, mode, &listed, &(others + 46..others + 62));
    }
}

#[test]
fn authorizers() {
    for mode in BOTH_MODES {
        let listed: [(_, &[_]); 4] = [
            // The version of the ticket.
            (Leg::Request, &[(13, 14)]),
            (Leg::Challenge, &[]),
            (Leg::Answer, &[(13, 14)]),
            (Leg::Done, &[]),
        ];
        check(EntityType::Osd, mode, &listed, &(0..0));
    }
}
