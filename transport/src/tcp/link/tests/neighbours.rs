//! Neighbours over time: asked, believed, asked again, given up, replaced.

use super::super::neighbours::{CAPACITY, WAITING, WAITING_FOR_ONE};
use super::*;

const PEERS: [&str; 2] = ["10.9.0.2", "fd00::2"];

/// The one with [`PEER`]'s addresses, who knows both of [`PEERS`] since now.
fn acquainted() -> Host {
    let mut host = Host::peer();
    for (neighbour, answer) in PEERS.into_iter().zip([ARP_REPLY, ADVERTISEMENT]) {
        host.resolve(neighbour);
        host.poll();
        assert_eq!(host.input(&unhex(answer)).0, Input::Handled);
    }
    host
}

/// The question that asks only the one who had the address.
fn direct(question: &str) -> Vec<u8> {
    let to: &[(usize, &[u8])] = match question {
        ARP_REQUEST => &[(0, &US), (32, &US)],
        _ => &[
            (0, &US),
            (38, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]),
        ],
    };
    with(question, to)
}

#[test]
fn who_does_not_answer_is_asked_three_times_then_left_alone() {
    let mut host = Host::peer();
    let start = host.now;
    assert_eq!(host.resolve("10.9.0.2"), Resolved::Pending);
    host.link.enqueue(ip("10.9.0.2"), "lost");
    for second in 0..3 {
        assert_eq!(host.wait(), [unhex(ARP_REQUEST)]);
        assert_eq!(host.now, start + secs(second));
        assert_eq!(host.resolve("10.9.0.2"), Resolved::Pending);
        assert_eq!(host.poll(), [[0; 0]; 0]);
    }
    assert_eq!(host.wait(), [[0; 0]; 0]);
    assert_eq!(host.now, start + secs(3));
    assert_eq!(host.resolve("10.9.0.2"), Resolved::Unreachable);
    host.link.enqueue(ip("10.9.0.2"), "lost too");
    // After a while it is worth another try.
    assert_eq!(host.wait(), [[0; 0]; 0]);
    assert_eq!(host.now, start + secs(6));
    assert_eq!(
        (host.link.neighbours(), host.link.next_timeout()),
        (0, None)
    );
    assert_eq!(host.resolve("10.9.0.2"), Resolved::Pending);
    assert_eq!(host.poll(), [unhex(ARP_REQUEST)]);
    host.input(&unhex(ARP_REPLY));
    assert_eq!(host.link.take_resolved(), None);
}

#[test]
fn who_is_given_up_may_come_forward() {
    let mut host = Host::new();
    for neighbour in ["10.9.0.1", "fd00::1"] {
        host.resolve(neighbour);
    }
    for _ in 0..4 {
        host.wait();
    }
    for (neighbour, question) in [("10.9.0.1", ARP_REQUEST), ("fd00::1", SOLICITATION)] {
        assert_eq!(host.resolve(neighbour), Resolved::Unreachable);
        assert_eq!(host.input(&unhex(question)).0, Input::Handled);
        assert_eq!(host.resolve(neighbour), Resolved::Mac(PEER));
    }
}

#[test]
fn a_question_answers_ours() {
    let mut host = Host::new();
    for (neighbour, question) in [("10.9.0.1", ARP_REQUEST), ("fd00::1", SOLICITATION)] {
        assert_eq!(host.resolve(neighbour), Resolved::Pending);
        host.link.enqueue(ip(neighbour), neighbour);
        host.input(&unhex(question));
        assert_eq!(host.link.take_resolved(), Some((PEER, neighbour)));
    }
}

#[test]
fn who_is_not_in_use_is_forgotten() {
    let mut host = acquainted();
    let start = host.now;
    while host.link.next_timeout().is_some() {
        assert_eq!(host.wait(), [[0; 0]; 0]);
    }
    assert_eq!(host.now, start + secs(57));
    assert_eq!(host.link.neighbours(), 0);
}

#[test]
fn who_is_in_use_is_asked_again_before_it_is_forgotten() {
    let answers = [ARP_REPLY, ADVERTISEMENT];
    let questions = [direct(ARP_REQUEST), direct(SOLICITATION)];
    let mut host = acquainted();
    for round in 0..3 {
        let start = host.now;
        for neighbour in PEERS {
            assert_eq!(
                host.resolve(neighbour),
                Resolved::Mac(US),
                "in round {round}"
            );
        }
        assert_eq!(host.wait(), questions);
        assert_eq!(host.now, start + secs(57));
        for answer in answers {
            assert_eq!(host.input(&unhex(answer)), (Input::Handled, vec![]));
        }
    }
    // It falls silent.
    let start = host.now;
    for neighbour in PEERS {
        host.resolve(neighbour);
    }
    for second in 57..60 {
        assert_eq!(host.wait(), questions);
        assert_eq!(host.now, start + secs(second));
        assert_eq!(host.resolve("10.9.0.2"), Resolved::Mac(US));
    }
    host.wait();
    assert_eq!(host.now, start + secs(60));
    assert_eq!(host.resolve("10.9.0.2"), Resolved::Pending);
    assert_eq!(host.poll(), [unhex(ARP_REQUEST)]);
}

#[test]
fn who_was_not_asked_is_believed_for_five_seconds() {
    let mut host = Host::new();
    let start = host.now;
    host.input(&unhex(ARP_REQUEST));
    assert_eq!(host.wait(), [[0; 0]; 0]);
    assert_eq!((host.now, host.link.neighbours()), (start + secs(5), 0));

    let start = host.now;
    host.input(&unhex(ARP_REQUEST));
    host.resolve("10.9.0.1");
    // Saying it again changes nothing.
    host.now += secs(3);
    host.input(&unhex(ARP_REQUEST));
    let question = host.wait();
    assert_eq!((host.now, question.len()), (start + secs(5), 1));
    assert_eq!(question[0][..6], PEER);
}

#[test]
fn a_known_neighbour_may_move() {
    // Gratuitous ARP (RFC 5944, section 4.6), and an advertisement that overrides.
    let moved_v4 = with(ARP_REQUEST, &[(22, &THIEF), (28, &[10, 9, 0, 2])]);
    let target = v6("fd00::2").octets();
    let moved_v6 = with(
        ANNOUNCEMENT,
        &[(6, &THIEF), (22, &target), (62, &target), (80, &THIEF)],
    );
    let mut host = acquainted();
    for (neighbour, moved) in PEERS.into_iter().zip([moved_v4, moved_v6]) {
        assert_eq!(host.input(&moved), (Input::Handled, vec![]));
        assert_eq!(host.resolve(neighbour), Resolved::Mac(THIEF));
    }
    // Nobody has verified that, so it is soon.
    let start = host.now;
    let questions = host.wait();
    assert_eq!((host.now, questions.len()), (start + secs(5), 2));
    assert!(questions.iter().all(|question| question[..6] == THIEF));
}

#[test]
fn an_advertisement_that_does_not_override_only_raises_doubt() {
    let mut host = acquainted();
    host.resolve("fd00::2");
    let doubt = with(ADVERTISEMENT, &[(58, &[0x40]), (80, &THIEF)]);
    host.now += secs(1);
    let start = host.now;
    assert_eq!(host.input(&doubt).0, Input::Handled);
    assert_eq!(host.resolve("fd00::2"), Resolved::Mac(US));
    assert_eq!(host.wait(), [direct(SOLICITATION)]);
    assert_eq!(host.now, start + secs(5));
    // Doubt does not keep it from being asked.
    assert_eq!(host.input(&doubt).0, Input::Handled);
    assert_eq!(host.wait(), [direct(SOLICITATION)]);
    assert_eq!(host.now, start + secs(6));
    // An answer may leave out the address that it was sent to (RFC 4861, section 4.4).
    let mut answer = unhex(ADVERTISEMENT);
    answer.truncate(78);
    answer[19] = 24;
    put_checksum(&mut answer);
    assert_eq!(host.input(&answer).0, Input::Handled);
    host.resolve("fd00::2");
    let start = host.now;
    while host.wait() != [direct(SOLICITATION)] {}
    assert_eq!(host.now, start + secs(57));
}

#[test]
fn an_advertisement_without_an_address_resolves_nothing() {
    let mut host = Host::peer();
    host.resolve("fd00::2");
    host.poll();
    let answer = with(ADVERTISEMENT, &[(78, &[14])]);
    host.ignores(&answer, Ignored::Unsolicited);
    assert_eq!(host.resolve("fd00::2"), Resolved::Pending);
}

#[test]
fn the_oldest_packets_of_too_many_are_dropped() {
    let mut host = Host::peer();
    host.resolve("10.9.0.2");
    host.poll();
    for packet in ["1", "2", "3", "4", "5"] {
        host.link.enqueue(ip("10.9.0.2"), packet);
    }
    host.input(&unhex(ARP_REPLY));
    let resolved: Vec<_> = std::iter::from_fn(|| host.link.take_resolved()).collect();
    assert_eq!(WAITING_FOR_ONE, resolved.len());
    assert_eq!(resolved, [(US, "3"), (US, "4"), (US, "5")]);
    // There is nothing to wait for.
    host.link.enqueue(ip("10.9.0.2"), "6");
    assert_eq!(host.link.take_resolved(), Some((US, "6")));
    host.link.enqueue(ip("10.9.0.77"), "to nobody");
    assert_eq!(host.link.take_resolved(), None);
}

fn nth(n: usize) -> IpAddr {
    let n = n + 0x100;
    IpAddr::from([10, 9, (n >> 8) as u8, n as u8])
}

/// With room for many neighbours.
fn large() -> Host {
    Host::at(US, &[(ip("10.9.0.2"), 16)], &[])
}

fn question_from(neighbour: IpAddr) -> Vec<u8> {
    let IpAddr::V4(v4) = neighbour else {
        panic!("{neighbour} has no ARP");
    };
    with(ARP_REQUEST, &[(28, &v4.octets())])
}

#[test]
fn packets_that_wait_are_bounded() {
    let mut host = large();
    for n in 0..WAITING {
        host.link.resolve(nth(n), host.now);
        host.link.enqueue(nth(n), "waits");
    }
    host.link.resolve(nth(WAITING), host.now);
    host.link.enqueue(nth(WAITING), "has no room");
    host.link.enqueue(nth(0), "takes the other's place");
    host.input(&question_from(nth(WAITING)));
    assert_eq!(host.link.take_resolved(), None);
    host.input(&question_from(nth(0)));
    assert_eq!(
        host.link.take_resolved(),
        Some((PEER, "takes the other's place"))
    );
    assert_eq!(host.link.take_resolved(), None);
    // What is given up makes room.
    host.link.resolve(nth(WAITING + 1), host.now);
    host.link
        .enqueue(nth(WAITING + 1), "in the place that is free");
    host.link.enqueue(nth(WAITING + 1), "instead of the other");
    for _ in 0..4 {
        host.wait();
    }
    let newcomer = nth(WAITING + 2);
    host.link.resolve(newcomer, host.now);
    for packet in ["1", "2", "3"] {
        host.link.enqueue(newcomer, packet);
    }
    host.input(&question_from(newcomer));
    let resolved: Vec<_> = std::iter::from_fn(|| host.link.take_resolved()).collect();
    assert_eq!(resolved, [(PEER, "1"), (PEER, "2"), (PEER, "3")]);
}

#[test]
fn strangers_cannot_fill_the_table_to_the_disadvantage_of_others() {
    let mut host = large();
    for n in 0..CAPACITY + 10 {
        let (input, answer) = host.input(&question_from(nth(n)));
        assert_eq!((input, answer.len()), (Input::Handled, 1));
    }
    assert_eq!(host.link.neighbours(), CAPACITY);
    // There is always room for whom we want to talk to.
    let friend = nth(CAPACITY);
    assert_eq!(host.link.resolve(friend, host.now), Resolved::Pending);
    assert_eq!(host.link.neighbours(), CAPACITY);
    host.poll();
    host.input(&question_from(friend));
    assert_eq!(host.link.resolve(friend, host.now), Resolved::Mac(PEER));
}

#[test]
fn those_in_use_stay_when_others_must_go() {
    let mut host = large();
    for n in 0..CAPACITY {
        host.input(&question_from(nth(n)));
    }
    // The first are those whose time is over soonest.
    for n in 0..5 {
        assert_eq!(host.link.resolve(nth(n), host.now), Resolved::Mac(PEER));
    }
    for n in 0..1000 {
        let newcomer = nth(CAPACITY + n);
        assert_eq!(host.link.resolve(newcomer, host.now), Resolved::Pending);
    }
    for n in 0..5 {
        assert_eq!(host.link.resolve(nth(n), host.now), Resolved::Mac(PEER));
    }
    assert_eq!(host.link.neighbours(), CAPACITY);
    // Packets of those that went do not count any more.
    for n in 0..3 * CAPACITY {
        host.link.resolve(nth(n), host.now);
        host.link.enqueue(nth(n), "of many");
    }
    let last = nth(3 * CAPACITY);
    host.link.resolve(last, host.now);
    assert_eq!(host.link.neighbours(), CAPACITY);
}
