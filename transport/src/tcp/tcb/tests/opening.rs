//! How connections begin.

use super::*;

#[test]
fn both_ends_learn_the_options_of_the_other() {
    let now = Time::default();
    let mut client = End::new(Tcb::connect(ends_of(0), OURS, 1000, 100_000, now));
    let [syn] = client.turn(now).try_into().expect("a SYN");
    assert_eq!(heard(&syn), (SYN, 0, 0, 0));
    let options = |mss, shift| Options {
        mss: Some(mss),
        window_scale: Some(shift),
        ..SYN_OPTIONS
    };
    assert_eq!((syn.segment.window, syn.options), (65535, options(1000, 1)));

    let tcb = Tcb::accept((&syn.segment, &syn.options), THEIRS, 800, 40_000, now);
    let mut server = End::new(tcb);
    assert!(!server.tcb.is_synchronized());
    let [syn_ack] = server
        .turn(now)
        .try_into()
        .expect("a SYN that acknowledges");
    assert!(syn_ack.segment.has(SYN) && syn_ack.segment.has(ACK));
    assert_eq!(syn_ack.segment.window, 40_000);
    assert_eq!(syn_ack.options, options(800, 0));

    assert_eq!(client.take(&syn_ack, now), None);
    assert!(client.tcb.is_synchronized());
    let [ack] = client.turn(now).try_into().expect("an acknowledgement");
    assert_eq!(heard(&ack), (ACK, 1, 1, 0));
    assert_eq!(ack.segment.window, 50_000);
    assert_eq!(server.take(&ack, now), None);
    assert!(server.tcb.is_synchronized());
    assert_eq!([client.tcb.mss(), server.tcb.mss()], [800, 800]);
    assert_eq!(server.turn(now), []);
}

/// An owner that looks and finds nothing is no reason to tell the peer anything.
#[test]
fn an_established_connection_says_nothing_more() {
    let mut made = Made::connected();
    made.end.tcb.on_read(0);
    assert_eq!(made.turn(), []);
}

/// RFC 2018, section 3: a SYN is nothing that comes behind a gap, nor twice.
#[test]
fn the_first_acknowledgement_has_no_ranges() {
    let mut made = Made::connecting();
    made.turn();
    let packets = made.hears_all(&[says_syn_ack(SYN_OPTIONS)]);
    assert_eq!(
        packets.iter().map(heard).collect::<Vec<_>>(),
        [(ACK, 1, 1, 0)]
    );
    assert_eq!(sacks(&packets[0]), []);
}

#[test]
fn only_options_that_both_know_are_used() {
    for (theirs, expected) in [
        (Options::default(), (None, false)),
        (
            Options {
                window_scale: Some(3),
                ..Options::default()
            },
            (Some(1), false),
        ),
        (
            Options {
                sack_permitted: true,
                ..Options::default()
            },
            (None, true),
        ),
    ] {
        let mut made = Made::asked(theirs);
        let [syn_ack] = made.turn().try_into().expect("a SYN that acknowledges");
        let Options {
            mss,
            window_scale,
            sack_permitted,
            ..
        } = syn_ack.options;
        assert_eq!(mss, Some(MSS));
        assert_eq!((window_scale, sack_permitted), expected);
        // What nobody needs to say that he takes (RFC 9293, section 3.7.1).
        assert_eq!(made.end.tcb.mss(), 536);
    }
}

#[test]
fn a_syn_is_sent_again_less_and_less_often_until_it_is_given_up() {
    let mut made = Made::connecting();
    assert_eq!(made.turn().len(), 1);
    let mut waited = Vec::new();
    while !made.end.is_over() {
        let (time, packets) = made.waits();
        waited.push(time.as_millis());
        let flags = if made.end.is_over() { RST } else { SYN };
        assert!(packets.iter().all(|packet| packet.segment.flags == flags));
    }
    assert_eq!(waited[..6], [200, 400, 800, 1600, 3200, 6400]);
    assert_eq!(made.ended(), Some(Ended::TimedOut));
    let total = waited.iter().sum::<u128>();
    assert!((30_000..40_000).contains(&total), "{total}");
}

#[test]
fn a_syn_that_comes_again_is_answered_again() {
    let mut made = Made::asked(SYN_OPTIONS);
    let answer = [(SYN | ACK, 0, 1, 0)];
    assert_eq!(made.turn().iter().map(heard).collect::<Vec<_>>(), answer);
    assert_eq!(made.hears(says_syn(SYN_OPTIONS)), answer);
    // And by itself.
    let (_, packets) = made.waits();
    assert_eq!(packets.iter().map(heard).collect::<Vec<_>>(), answer);
    made.hears(SAYS);
    assert!(made.end.tcb.is_synchronized());
}

/// The last segment of the handshake was lost, and the peer's SYN comes once more.
#[test]
fn a_syn_ack_that_comes_again_is_acknowledged() {
    let mut made = Made::connecting();
    made.turn();
    assert_eq!(made.hears(says_syn_ack(SYN_OPTIONS)), [(ACK, 1, 1, 0)]);
    made.now += MILLISECOND;
    assert_eq!(made.hears(says_syn_ack(SYN_OPTIONS)), [(ACK, 1, 1, 0)]);
}

#[test]
fn bytes_and_the_end_may_come_with_the_last_segment_of_the_handshake() {
    let mut made = Made::asked(SYN_OPTIONS);
    made.turn();
    let says = Says {
        flags: ACK | FIN,
        ..sends(1, 500)
    };
    assert_eq!(made.hears(says), [(ACK, 1, 502, 0)]);
    assert_eq!(made.end.received, pattern(1, 500));
    assert!(made.end.tcb.has_all());
}

/// RFC 9293, section 3.5, figure 7.
#[test]
fn both_may_ask_at_once() {
    let mut made = Made::connecting();
    made.turn();
    assert_eq!(made.hears(says_syn(SYN_OPTIONS)), [(SYN | ACK, 0, 1, 0)]);
    assert!(!made.end.tcb.is_synchronized());
    made.hears(says_syn_ack(SYN_OPTIONS));
    assert!(made.end.tcb.is_synchronized());
    // One of its kind that has lost our answer asks again, and is told.
    made.now += MILLISECOND;
    assert_eq!(made.hears(says_syn_ack(SYN_OPTIONS)), [(ACK, 1, 1, 0)]);
}

/// RFC 7323, section 2.2: the window of a segment with a SYN is never scaled.
#[test]
fn the_window_of_an_answer_to_both_is_not_scaled() {
    let mut made = Made::connecting();
    made.turn();
    let options = Options {
        window_scale: Some(4),
        ..SYN_OPTIONS
    };
    made.hears(Says {
        window: 1000,
        ..says_syn(options)
    });
    made.hears(Says {
        window: 1000,
        ..says_syn_ack(options)
    });
    let sent: usize = made
        .writes(8000)
        .iter()
        .map(|packet| packet.bytes.len())
        .sum();
    assert_eq!(sent, 1000);
}

#[test]
fn answers_to_another_attempt_are_rejected() {
    let answer = says_syn_ack(SYN_OPTIONS);
    for (says, expected) in [
        (Says { ack: 2, ..answer }, vec![(RST, 2, 0, 0)]),
        (Says { ack: 0, ..answer }, vec![(RST, 0, 0, 0)]),
        (Says { ack: 2, ..SAYS }, vec![(RST, 2, 0, 0)]),
        (
            Says {
                ack: 2,
                flags: RST | ACK,
                ..SAYS
            },
            vec![],
        ),
        (Says { flags: RST, ..SAYS }, vec![]),
        (Says { flags: FIN, ..SAYS }, vec![]),
        (Says { flags: 0, ..SAYS }, vec![]),
        (SAYS, vec![]),
    ] {
        let mut made = Made::connecting();
        made.turn();
        let heard: Vec<Heard> = made
            .hears_all(&[says])
            .iter()
            .map(heard_of_nobody)
            .collect();
        assert_eq!(heard, expected, "{says:?}");
        assert_eq!(made.ended(), None);
        made.hears(answer);
        assert!(made.end.tcb.is_synchronized());
    }
}

/// As [`heard`] of a segment that acknowledges nothing.
fn heard_of_nobody(packet: &Packet) -> Heard {
    let (flags, seq, _, len) = heard(packet);
    (flags, seq, 0, len)
}

#[test]
fn a_refusal_ends_it_at_once() {
    let mut made = Made::connecting();
    made.turn();
    assert_eq!(
        made.hears(Says {
            seq: 0,
            flags: RST | ACK,
            ..SAYS
        }),
        []
    );
    assert_eq!(made.ended(), Some(Ended::Reset));
}

/// RFC 9293, section 3.10.7.4: SYN-RECEIVED.
#[test]
fn who_has_been_answered_may_change_his_mind() {
    let mut made = Made::asked(SYN_OPTIONS);
    made.turn();
    assert_eq!(made.hears(Says { ack: 7, ..SAYS }), [(RST, 7, 0, 0)]);
    assert!(!made.end.tcb.is_synchronized());
    made.hears(Says { flags: RST, ..SAYS });
    assert_eq!(made.ended(), Some(Ended::Reset));
}
