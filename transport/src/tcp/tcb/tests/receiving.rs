//! What arrives, in order or not, and what the peer is told of it.

use super::*;

#[test]
fn bytes_out_of_order_are_put_together() {
    let expected = pattern(1, 5000);
    for order in [
        vec![(1001, 1000), (2001, 1000), (3001, 2000), (1, 1000)],
        vec![
            (4001, 1000),
            (2001, 1000),
            (1, 1000),
            (3001, 1000),
            (1001, 1000),
        ],
        // They overlap: to the left, to the right, all over and within.
        vec![
            (2001, 1000),
            (1501, 1000),
            (2501, 1000),
            (1801, 3200),
            (2101, 10),
            (1, 2000),
        ],
        vec![(3001, 500), (4001, 500), (2001, 3000), (1, 5000)],
        vec![(3001, 500), (4001, 500), (5000, 1), (1, 4999)],
    ] {
        let mut made = Made::connected();
        for (seq, len) in &order {
            made.hears(sends(*seq, *len));
        }
        assert!(made.end.received == expected, "{order:?}");
        assert_eq!(made.end.unread, 0);
    }
}

/// RFC 2018, section 4: the latest first, then what was said before; RFC 2883: what comes twice.
#[test]
fn ranges_say_what_has_arrived_the_latest_first() {
    let mut made = Made::connected();
    for (seq, len, ack, expected) in [
        (2001, 100, 1, vec![(2001, 2101)]),
        (3001, 100, 1, vec![(3001, 3101), (2001, 2101)]),
        (4001, 100, 1, vec![(4001, 4101), (3001, 3101), (2001, 2101)]),
        (2101, 100, 1, vec![(2001, 2201), (4001, 4101), (3001, 3101)]),
        (
            1,
            1000,
            1001,
            vec![(2001, 2201), (4001, 4101), (3001, 3101)],
        ),
        (
            1,
            500,
            1001,
            vec![(1, 501), (2001, 2201), (4001, 4101), (3001, 3101)],
        ),
        (
            5001,
            100,
            1001,
            vec![(5001, 5101), (4001, 4101), (3001, 3101), (2001, 2201)],
        ),
        (
            6001,
            100,
            1001,
            vec![(6001, 6101), (5001, 5101), (4001, 4101), (3001, 3101)],
        ),
        (
            1001,
            1000,
            2201,
            vec![(6001, 6101), (5001, 5101), (4001, 4101), (3001, 3101)],
        ),
        (2201, 5000, 7201, vec![]),
    ] {
        made.now += 10 * MILLISECOND;
        let [packet] = made
            .hears_all(&[sends(seq, len)])
            .try_into()
            .expect("an answer");
        assert_eq!((heard(&packet).2, sacks(&packet)), (ack, expected), "{seq}");
    }
}

/// RFC 2883, section 4: what comes twice is told, then the range that it is part of.
#[test]
fn what_comes_twice_behind_a_gap_is_followed_by_where_it_is() {
    let mut made = Made::connected();
    made.hears(sends(2001, 1000));
    made.hears(sends(4001, 1000));
    let packets = made.hears_all(&[sends(2201, 100)]);
    assert_eq!(sacks(&packets[0])[..2], [(2201, 2301), (2001, 3001)]);
}

/// Nobody has promised to keep what is behind a gap, but what is said to have arrived is kept.
#[test]
fn what_is_thrown_away_is_not_said_to_have_arrived() {
    let mut made = Made::connected();
    let mut last = Vec::new();
    for at in 0..1100 {
        last = made.hears_all(&[sends(3 + 2 * at, 1)]);
    }
    let said = sacks(&last[0]);
    assert_eq!(made.end.received, []);
    // Without gaps, all that was said to be there is.
    made.hears(sends(1, 1));
    for at in 0..1100 {
        made.hears(sends(2 + 2 * at, 1));
        if said
            .iter()
            .all(|(_, up_to)| *up_to <= made.end.received.len() as u32 + 1)
        {
            return;
        }
    }
    panic!(
        "{said:?}, but only {} bytes are there",
        made.end.received.len()
    );
}

#[test]
fn who_does_not_know_ranges_gets_none() {
    let options = Options {
        sack_permitted: false,
        ..SYN_OPTIONS
    };
    let mut made = Made::connected_with(options, WINDOW);
    let packets = made.hears_all(&[sends(2001, 100)]);
    assert_eq!(
        packets.iter().map(heard).collect::<Vec<_>>(),
        [(ACK, 1, 1, 0)]
    );
    assert_eq!(packets[0].options, Options::default());
}

#[test]
fn every_second_segment_is_acknowledged_at_once_and_a_lone_one_late() {
    let mut made = Made::connected();
    assert_eq!(made.hears(sends(1, 1000)), []);
    assert_eq!(made.hears(sends(1001, 1000)), [(ACK, 1, 2001, 0)]);
    assert_eq!(made.hears(sends(2001, 1000)), []);
    let (time, packets) = made.waits();
    assert_eq!(
        packets.iter().map(heard).collect::<Vec<_>>(),
        [(ACK, 1, 3001, 0)]
    );
    assert_eq!(time, made.end.config.ack_delay);
}

/// RFC 5681, section 4.2: full segments are as long as the peer sends them.
#[test]
fn every_second_of_a_peers_shorter_segments_is_acknowledged_at_once() {
    let options = Options {
        mss: Some(500),
        ..SYN_OPTIONS
    };
    let mut made = Made::connected_with(options, WINDOW);
    assert_eq!(made.hears(sends(1, 500)), []);
    assert_eq!(made.hears(sends(501, 500)), [(ACK, 1, 1001, 0)]);
}

/// What goes out anyway takes the acknowledgement with it.
#[test]
fn bytes_carry_acknowledgements() {
    let mut made = Made::connected();
    made.hears(sends(1, 700));
    assert_eq!(
        made.writes(10).iter().map(heard).collect::<Vec<_>>(),
        [(ACK, 1, 701, 10)]
    );
    made.hears(Says {
        ack: 11,
        ..sends(701, 0)
    });
    let (time, _) = made.waits();
    assert!(time >= Duration::from_secs(5), "{time:?}");
}

/// RFC 5961, sections 3 and 4; RFC 9293, section 3.10.7.4.
#[test]
fn only_the_very_next_number_resets_a_connection() {
    let edge = 1 + WINDOW as u32;
    for (seq, resets, is_answered) in [
        (1, true, false),
        (0, false, false),
        (2, false, true),
        (edge - 1, false, true),
        (edge, false, false),
        (0x8000_0000, false, false),
    ] {
        let mut made = Made::connected();
        let packets = made.hears(Says {
            seq,
            flags: RST,
            ..SAYS
        });
        let expected = if is_answered {
            vec![(ACK, 1, 1, 0)]
        } else {
            vec![]
        };
        assert_eq!(packets, expected, "{seq}");
        assert_eq!(made.ended(), resets.then_some(Ended::Reset), "{seq}");
    }
}

#[test]
fn a_syn_in_a_connection_is_only_answered() {
    for seq in [0, 1, 2, 50_000, 0x8000_0000] {
        for flags in [SYN, SYN | ACK] {
            let mut made = Made::connected();
            assert_eq!(made.hears(Says { seq, flags, ..SAYS }), [(ACK, 1, 1, 0)]);
            assert_eq!(made.ended(), None);
            made.hears(sends(1, 2000));
            assert_eq!(made.end.received.len(), 2000);
        }
    }
}

/// Answers to such segments are few (RFC 5961, section 7), and never to each other's.
#[test]
fn what_changes_nothing_is_not_answered_all_the_time() {
    let mut made = Made::connected();
    let mut answers = 0;
    for _ in 0..1000 {
        made.now += MILLISECOND / 10;
        answers += made
            .hears(Says {
                seq: 2,
                flags: RST,
                ..SAYS
            })
            .len();
        answers += made
            .hears(Says {
                seq: 2,
                flags: SYN,
                ..SAYS
            })
            .len();
        answers += made.hears(Says { ack: 2, ..SAYS }).len();
        answers += made.hears(Says { seq: 0, ..SAYS }).len();
    }
    assert!((10..=21).contains(&answers), "{answers}");
}

#[test]
fn what_is_behind_the_window_is_not_taken_in() {
    let mut made = Made::connected_with(SYN_OPTIONS, 3000);
    made.end.reads = false;
    made.hears(sends(1, 2500));
    made.hears(sends(2501, 1000));
    assert_eq!(made.end.received, pattern(1, 3000));
    assert_eq!(made.hears(sends(3001, 500)), [(ACK, 1, 3001, 0)]);
    made.end.read(3000);
    made.hears(sends(3001, 500));
    assert_eq!(made.end.received, pattern(1, 3500));
}

/// RFC 9293, section 3.8.6.2.2: the window opens by much, or not at all, and by itself.
#[test]
fn windows_are_not_silly() {
    let mut made = Made::connected_with(SYN_OPTIONS, 10_000);
    made.end.reads = false;
    let packets = made.hears_all(&[sends(1, 10_000)]);
    assert_eq!(packets.last().expect("an answer").segment.window, 0);
    made.end.read(400);
    assert_eq!(made.turn(), []);
    // Who asks is told that there is no room.
    let asks = Says {
        seq: 10_000,
        ..SAYS
    };
    made.now += 10 * MILLISECOND;
    assert_eq!(made.hears_all(&[asks])[0].segment.window, 0);
    made.end.read(600);
    made.now += 10 * MILLISECOND;
    assert_eq!(made.hears_all(&[asks])[0].segment.window, 1000);
    made.end.read(3000);
    assert_eq!(made.turn(), []);
    made.end.read(3000);
    let packets = made.turn();
    assert_eq!(
        packets.iter().map(heard).collect::<Vec<_>>(),
        [(ACK, 1, 10_001, 0)]
    );
    assert_eq!(packets[0].segment.window, 7000);
}

/// Windows of who cannot scale them are shorter than the room that there is.
#[test]
fn who_does_not_know_scales_hears_of_room_too() {
    let options = Options {
        window_scale: None,
        ..SYN_OPTIONS
    };
    let mut made = Made::connected_with(options, 500_000);
    made.end.reads = false;
    let mut last = Vec::new();
    let mut seq = 1;
    while last
        .last()
        .is_none_or(|packet: &Packet| packet.segment.window > 0)
        && seq < 600_000
    {
        last = made.hears_all(&[sends(seq, 1000), sends(seq + 1000, 1000)]);
        seq += 2000;
    }
    made.end.read(made.end.unread);
    let [update] = made.turn().try_into().expect("word of room");
    assert_eq!(update.segment.window, 65535);
}

/// What was promised stays: nothing that the peer sends in good faith is thrown away.
#[test]
fn the_window_of_the_syn_is_kept_to() {
    let mut made = Made::connected_with(SYN_OPTIONS, 10_000);
    made.end.reads = false;
    let packets = made.hears_all(&[sends(1001, 1000), sends(3001, 7000)]);
    let last = packets.last().expect("an answer");
    assert_eq!(last.segment.window, 10_000);
    made.hears(sends(1, 1000));
    made.hears(sends(2001, 1000));
    assert_eq!(made.end.received, pattern(1, 10_000));
}
