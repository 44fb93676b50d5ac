//! What is sent, and sent again.

use super::*;

/// Established, with a round trip of a millisecond, and so many segments on the way.
fn with_segments(count: usize, options: Options) -> Made {
    let mut made = Made::connected_with(options, WINDOW);
    let packets = made.writes(count * usize::from(MSS));
    let expected: Vec<_> = (0..count).map(|at| (1 + 1000 * at as u32, 1000)).collect();
    assert_eq!(ranges(&packets), expected);
    made.now += MILLISECOND;
    made
}

fn without_sack() -> Options {
    Options {
        sack_permitted: false,
        ..SYN_OPTIONS
    }
}

#[test]
fn bytes_are_cut_into_segments_and_the_last_is_pushed() {
    let mut made = Made::connected();
    let packets = made.writes(2500);
    assert_eq!(ranges(&packets), [(1, 1000), (1001, 1000), (2001, 500)]);
    let pushed = |packet: &Packet| packet.bytes.len() == 500;
    assert!(
        packets
            .iter()
            .all(|packet| packet.segment.ack == THEIRS + 1)
    );
    assert_eq!(packets.iter().filter(|packet| pushed(packet)).count(), 1);
}

/// RFC 6928, then RFC 5681, section 3.1: it doubles in a round trip.
#[test]
fn it_starts_slowly() {
    let (mut made, mut sent) = (Made::connected(), 10);
    assert_eq!(made.writes(100_000).len(), sent);
    let mut arrived = 0;
    for expected in [20, 40] {
        made.now += MILLISECOND;
        let says: Vec<Says> = (arrived..arrived + sent)
            .map(|at| acks(1001 + 1000 * at as u32, &[]))
            .collect();
        arrived += sent;
        sent = made.hears_all(&says).len();
        assert_eq!(sent, expected);
    }
}

/// RFC 6675, section 5, step 4.3: the first of what is lost goes out although more is on the way than
/// may be from now on.
#[test]
fn the_first_of_what_is_lost_does_not_wait_for_room() {
    let mut made = Made::connected();
    made.writes(100_000);
    made.now += MILLISECOND;
    made.hears_all(&[acks(5001, &[]), acks(10_001, &[])]);
    // From here on, 20 segments are on the way.
    made.now += MILLISECOND;
    let again = made.hears_all(&[acks(10_001, &[(11_001, 14_001)])]);
    assert_eq!(ranges(&again)[..], [(10_001, 1000)]);
}

/// RFC 8985, section 6.2, step 3: the ranges of one acknowledgement have not overtaken each other.
#[test]
fn ranges_that_are_told_at_once_are_no_reason_to_wait() {
    for sacks in [
        [(8001, 10_001), (5001, 7001), (1001, 4001)],
        [(1001, 4001), (5001, 7001), (8001, 10_001)],
    ] {
        let mut made = with_segments(10, SYN_OPTIONS);
        let again = made.hears_all(&[acks(1, &sacks)]);
        assert_eq!(ranges(&again), [(1, 1000), (4001, 1000), (7001, 1000)]);
    }
}

/// Three segments behind a missing one, and it is sent again, in the same moment (RFC 6675).
#[test]
fn a_gap_is_filled_as_soon_as_it_is_clear() {
    let mut made = with_segments(10, SYN_OPTIONS);
    made.now += MILLISECOND;
    assert_eq!(made.hears_all(&[acks(1, &[(1001, 2001)])]), []);
    assert_eq!(made.hears_all(&[acks(1, &[(1001, 3001)])]), []);
    let again = made.hears_all(&[acks(1, &[(1001, 4001)])]);
    assert_eq!(ranges(&again), [(1, 1000)]);
    // Once.
    assert_eq!(made.hears_all(&[acks(1, &[(1001, 5001)])]), []);
    made.now += MILLISECOND;
    assert_eq!(made.hears_all(&[acks(10_001, &[])]), []);
    assert_eq!(made.end.due().map(|due| due > made.now), Some(true));
}

/// And less than three, a quarter of a round trip later (RFC 8985).
#[test]
fn a_gap_of_few_is_filled_a_little_later() {
    let mut made = with_segments(3, SYN_OPTIONS);
    assert_eq!(made.hears_all(&[acks(1, &[(2001, 3001)])]), []);
    let (time, again) = made.waits();
    assert_eq!(time, MILLISECOND / 4);
    assert_eq!(ranges(&again), [(1, 1000), (1001, 1000)]);
}

#[test]
fn what_is_only_late_is_not_sent_again() {
    let mut made = with_segments(3, SYN_OPTIONS);
    made.hears_all(&[acks(1, &[(1001, 2001)])]);
    made.now += MILLISECOND / 8;
    assert_eq!(made.hears_all(&[acks(2001, &[])]), []);
    made.hears_all(&[acks(3001, &[])]);
    let (time, _) = made.waits();
    assert!(time >= Duration::from_secs(5), "{time:?}");
}

#[test]
fn several_gaps_are_filled_in_order() {
    let mut made = with_segments(10, SYN_OPTIONS);
    let sacks = [(8001, 10_001), (5001, 7001), (1001, 4001)];
    let again = made.hears_all(&[acks(1, &sacks)]);
    assert_eq!(ranges(&again), [(1, 1000), (4001, 1000), (7001, 1000)]);
    // One of them is lost once more: what was sent after it has arrived.
    made.now += 2 * MILLISECOND;
    made.hears_all(&[acks(4001, &[(7001, 10_001), (5001, 7001)])]);
    let (_, again) = made.waits();
    assert_eq!(ranges(&again), [(4001, 1000)]);
}

/// RFC 8985, section 7: the last that was sent, twice a round trip later.
#[test]
fn a_lost_end_is_probed_for() {
    let mut made = with_segments(3, SYN_OPTIONS);
    made.hears_all(&[acks(1001, &[])]);
    let (time, probe) = made.waits();
    assert!((MILLISECOND..10 * MILLISECOND).contains(&time), "{time:?}");
    assert_eq!(ranges(&probe), [(2001, 1000)]);
    made.now += MILLISECOND;
    let again = made.hears_all(&[acks(1001, &[(2001, 3001)])]);
    let again = if again.is_empty() {
        made.waits().1
    } else {
        again
    };
    assert_eq!(ranges(&again), [(1001, 1000)]);
}

#[test]
fn a_probe_is_of_new_bytes_if_there_are_any() {
    let mut made = Made::connected();
    let sent = made.writes(12_000);
    assert_eq!(sent.len(), 10);
    let (_, probe) = made.waits();
    assert_eq!(ranges(&probe), [(10_001, 1000)]);
}

/// RFC 6298, section 5: twice as long each time, one segment at a time, until the end.
#[test]
fn a_silent_peer_gets_the_first_segment_again_and_again() {
    let mut made = with_segments(3, SYN_OPTIONS);
    let (_, probe) = made.waits();
    assert_eq!(ranges(&probe), [(2001, 1000)]);
    let (mut before, _) = made.waits();
    let start = made.now;
    while !made.end.is_over() {
        let (time, again) = made.waits();
        if made.end.is_over() {
            assert_eq!(
                again
                    .iter()
                    .map(|packet| packet.segment.flags & RST)
                    .collect::<Vec<_>>(),
                [RST]
            );
            break;
        }
        assert_eq!(ranges(&again), [(1, 1000)]);
        assert!(
            time >= (2 * before).min(Duration::from_secs(5)),
            "{before:?}, {time:?}"
        );
        before = time;
    }
    assert_eq!(made.ended(), Some(Ended::TimedOut));
    let (took, timeout) = (made.now.since(start), made.end.config.timeout);
    assert!(
        (timeout..timeout + Duration::from_secs(6)).contains(&(took + 100 * MILLISECOND)),
        "{took:?}"
    );
}

/// RFC 2018, section 8: what the peer said it has may be gone.
#[test]
fn all_is_sent_again_if_nothing_helps() {
    let mut made = with_segments(5, SYN_OPTIONS);
    made.hears_all(&[acks(1, &[(1001, 5001)])]);
    let (_, again) = made.waits();
    assert_eq!(ranges(&again), [(1, 1000)]);
    let mut arrived = 1;
    while arrived < 5001 {
        let again = made.hears_all(&[acks(arrived + 1000, &[])]);
        arrived += 1000;
        let end = ranges(&again)
            .last()
            .map_or(5001, |(seq, len)| seq + *len as u32);
        assert!(end > arrived || arrived == 5001, "{end}");
        made.now += MILLISECOND;
    }
    assert!(made.end.tcb.is_at_rest());
}

/// RFC 5681, section 3.2; RFC 6582, section 3.2: partial acknowledgements.
#[test]
fn three_acknowledgements_of_the_same_tell_a_loss() {
    let mut made = with_segments(10, without_sack());
    assert_eq!(made.hears_all(&[acks(1, &[]), acks(1, &[])]), []);
    assert_eq!(ranges(&made.hears_all(&[acks(1, &[])])), [(1, 1000)]);
    assert_eq!(made.hears_all(&[acks(1, &[]); 6]), []);
    // The fourth was lost, too.
    made.now += MILLISECOND;
    assert_eq!(ranges(&made.hears_all(&[acks(3001, &[])])), [(3001, 1000)]);
    made.now += MILLISECOND;
    assert_eq!(made.hears_all(&[acks(10_001, &[])]), []);
    assert!(made.end.tcb.is_at_rest());
}

/// Nor does word of room, or bytes.
#[test]
fn other_segments_that_acknowledge_nothing_new_do_not() {
    let mut made = with_segments(10, without_sack());
    for at in 0..10 {
        let window = 60_000 + at;
        assert_eq!(
            made.hears_all(&[Says {
                window,
                ..acks(1, &[])
            }]),
            []
        );
    }
    for at in 0..10 {
        let packets = made.hears_all(&[sends(1 + 10 * at, 10)]);
        assert_eq!(ranges(&packets), []);
    }
}

/// After a time-out, what has been sent again once is not sent again at every acknowledgement.
#[test]
fn nothing_is_sent_twice_after_a_time_out() {
    let mut made = with_segments(10, without_sack());
    let mut sent = std::collections::BTreeMap::new();
    let mut count = |packets: &[Packet]| {
        for (seq, _) in ranges(packets) {
            *sent.entry(seq).or_insert(0) += 1;
        }
    };
    made.waits();
    let (_, first) = made.waits();
    count(&first);
    let mut arrived = 1;
    while arrived < 10_001 {
        made.now += MILLISECOND;
        arrived += 1000;
        count(&made.hears_all(&[acks(arrived, &[])]));
    }
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
}

#[test]
fn a_shut_window_is_probed_and_never_given_up() {
    let mut made = Made::connected();
    made.hears_all(&[Says { window: 0, ..SAYS }]);
    assert_eq!(made.writes(3000), []);
    let mut before = Duration::ZERO;
    for _ in 0..100 {
        let (time, probe) = made.waits();
        // What it has got already.
        assert_eq!(
            probe.iter().map(heard).collect::<Vec<_>>(),
            [(ACK, 0, 1, 0)]
        );
        assert!(
            time >= before && time <= Duration::from_secs(10),
            "{before:?}, {time:?}"
        );
        before = time;
        assert_eq!(made.hears_all(&[Says { window: 0, ..SAYS }]), []);
    }
    let packets = made.hears_all(&[SAYS]);
    assert_eq!(ranges(&packets), [(1, 1000), (1001, 1000), (2001, 1000)]);
}

#[test]
fn a_shut_window_of_a_peer_that_is_gone_is_given_up() {
    let mut made = Made::connected();
    made.hears_all(&[Says { window: 0, ..SAYS }]);
    made.writes(3000);
    let start = made.now;
    while !made.end.is_over() {
        made.waits();
    }
    assert_eq!(made.ended(), Some(Ended::TimedOut));
    let timeout = made.end.config.timeout;
    assert!((timeout..timeout + Duration::from_secs(10)).contains(&(made.now.since(start))));
}

/// RFC 9293, section 3.8.6.2.1: little is not sent while there is more, unless nothing else happens.
#[test]
fn segments_are_not_silly() {
    let mut made = Made::connected();
    made.hears_all(&[Says {
        window: 1300,
        ..SAYS
    }]);
    assert_eq!(ranges(&made.writes(5000)), [(1, 1000)]);
    made.now += MILLISECOND;
    assert_eq!(
        made.hears_all(&[Says {
            window: 300,
            ..acks(1001, &[])
        }]),
        []
    );
    let (time, packets) = made.waits();
    assert!(time >= MILLISECOND, "{time:?}");
    assert_eq!(ranges(&packets), [(1001, 300)]);
    // All that there is is worth it.
    let mut made = Made::connected();
    assert_eq!(ranges(&made.writes(3)), [(1, 3)]);
    assert_eq!(ranges(&made.writes(3)), [(4, 3)]);
}

/// A peer whose whole window is shorter than two segments would wait for them for ever.
#[test]
fn half_a_small_window_is_worth_a_segment() {
    let mut made = Made::asked(SYN_OPTIONS);
    let Packet {
        segment, options, ..
    } = Says {
        window: 600,
        ..says_syn(SYN_OPTIONS)
    }
    .packet();
    made.end.tcb = Tcb::accept((&segment, &options), OURS, MSS, WINDOW, made.now);
    made.turn();
    made.hears_all(&[Says {
        window: 600,
        ..SAYS
    }]);
    assert_eq!(ranges(&made.writes(5000)), [(1, 600)]);
    let packets = made.hears_all(&[Says {
        window: 400,
        ..acks(601, &[])
    }]);
    assert_eq!(ranges(&packets), [(601, 400)]);
}

/// Old segments come late, and say how it was.
#[test]
fn old_windows_are_not_believed() {
    let mut made = with_segments(2, SYN_OPTIONS);
    made.hears_all(&[Says {
        window: 60_000,
        ..acks(2001, &[])
    }]);
    made.hears_all(&[Says {
        window: 0,
        ..acks(1001, &[])
    }]);
    assert_eq!(ranges(&made.writes(1000)), [(2001, 1000)]);
}

/// A connection at rest is asked, and given up when it has not been heard of for `timeout`.
#[test]
fn a_peer_at_rest_is_asked_whether_it_is_there() {
    let mut made = Made::connected();
    for _ in 0..10 {
        let (time, asked) = made.waits();
        assert_eq!(time, made.end.config.keep_alive);
        assert_eq!(
            asked.iter().map(heard).collect::<Vec<_>>(),
            [(ACK, 0, 1, 0)]
        );
        assert_eq!(made.hears(SAYS), []);
    }
    let start = made.now;
    let mut count = 0;
    while !made.end.is_over() {
        count += made.waits().1.len();
    }
    assert_eq!(made.ended(), Some(Ended::TimedOut));
    assert_eq!(made.now.since(start), made.end.config.timeout);
    // Two questions, and a reset.
    assert_eq!(count, 3);
}

#[test]
fn who_asks_is_answered() {
    let mut made = Made::connected();
    assert_eq!(made.hears(Says { seq: 0, ..SAYS }), [(ACK, 1, 1, 0)]);
    // Some send a byte with it.
    made.now += 10 * MILLISECOND;
    assert_eq!(
        made.hears(Says {
            seq: 0,
            len: 1,
            ..SAYS
        }),
        [(ACK, 1, 1, 0)]
    );
}

/// Nothing is due again and again while an acknowledgement is waited for.
#[test]
fn who_waits_for_an_acknowledgement_does_not_ask() {
    let mut made = Made::connected();
    made.now += made.end.config.keep_alive / 2;
    made.writes(1000);
    let start = made.now;
    let mut turns = 0;
    while made.now < start + Duration::from_secs(20) {
        let due = made.end.due().expect("it waits");
        assert!(due > made.now, "due again and again");
        made.now = due;
        made.turn();
        turns += 1;
    }
    assert!(turns < 30, "{turns}");
}
