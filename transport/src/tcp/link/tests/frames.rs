//! What is in a frame: questions and answers byte for byte, and all that must be refused.

use super::super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, write_ethernet_header};
use super::*;

#[test]
fn answers_like_linux() {
    let mut host = Host::new();
    for (question, answer) in [
        (ARP_REQUEST, ARP_REPLY),
        (SOLICITATION, ADVERTISEMENT),
        (DUPLICATE_ADDRESS_DETECTION, ANNOUNCEMENT),
    ] {
        assert_eq!(
            host.input(&unhex(question)),
            (Input::Handled, vec![unhex(answer)])
        );
    }
    // Those who ask are about to talk to us; who has no address yet is not.
    assert_eq!(host.resolve("10.9.0.1"), Resolved::Mac(PEER));
    assert_eq!(host.resolve("fd00::1"), Resolved::Mac(PEER));
    assert_eq!(host.link.neighbours(), 2);
}

#[test]
fn asks_like_linux_and_understands_its_answers() {
    let mut host = Host::peer();
    for (neighbour, question, answer) in [
        ("10.9.0.2", ARP_REQUEST, ARP_REPLY),
        ("fd00::2", SOLICITATION, ADVERTISEMENT),
    ] {
        assert_eq!(host.resolve(neighbour), Resolved::Pending);
        host.link.enqueue(ip(neighbour), neighbour);
        assert_eq!(host.link.next_timeout(), Some(host.now));
        assert_eq!(host.poll(), [unhex(question)]);
        assert_eq!(host.link.take_resolved(), None);
        assert_eq!(host.input(&unhex(answer)), (Input::Handled, vec![]));
        assert_eq!(host.link.take_resolved(), Some((US, neighbour)));
        assert_eq!(host.link.take_resolved(), None);
        assert_eq!(host.resolve(neighbour), Resolved::Mac(US));
        assert_eq!(host.poll(), [[0; 0]; 0]);
    }
}

#[test]
fn announces_all_its_addresses() {
    let mut out = Vec::new();
    Host::new().link.announce(&mut out);
    let arp = "ffffffffffff 02000000000b 0806
        0001 0800 06 04 0001 02000000000b 0a090002 000000000000 0a090002";
    let global = with(
        ANNOUNCEMENT,
        &[(22, &v6("fd00::2").octets()), (62, &v6("fd00::2").octets())],
    );
    assert_eq!(bytes(&out), [unhex(arp), global, unhex(ANNOUNCEMENT)]);
}

#[test]
fn padding_is_no_part_of_a_packet() {
    let mut host = Host::new();
    let mut frame = vec![0; 60];
    write_ethernet_header(&mut frame, US, PEER, ETHERTYPE_IPV4);
    frame[14] = 0x45;
    frame[17] = 40;
    assert_eq!(host.input(&frame).0, Input::Ip(14..54));
    write_ethernet_header(&mut frame, US, PEER, ETHERTYPE_IPV6);
    frame[14..].fill(0);
    frame[14] = 0x60;
    frame[19] = 2;
    frame[20] = 6;
    assert_eq!(host.input(&frame).0, Input::Ip(14..56));
    let padded = [unhex(ARP_REQUEST), vec![0; 18]].concat();
    assert_eq!(
        host.input(&padded),
        (Input::Handled, vec![unhex(ARP_REPLY)])
    );
}

#[test]
fn other_icmpv6_is_an_ordinary_packet() {
    let mut host = Host::new();
    let echo = with(SOLICITATION, &[(0, &US), (54, &[128])]);
    assert_eq!(host.input(&echo).0, Input::Ip(14..86));
    // Not if it was for a whole group.
    host.ignores(&with(SOLICITATION, &[(54, &[128])]), Ignored::NotForUs);
    // Routers do not tell us anything.
    for kind in [133, 134, 137] {
        host.ignores(&with(SOLICITATION, &[(54, &[kind])]), Ignored::NotForUs);
    }
}

#[test]
fn bad_lengths_and_versions() {
    let mut host = Host::new();
    let mut frame = vec![0; 54];
    for (ethertype, at, byte, why) in [
        (ETHERTYPE_IPV4, 0, 0x55, Ignored::Malformed),
        (ETHERTYPE_IPV4, 0, 0x44, Ignored::Malformed),
        (ETHERTYPE_IPV4, 0, 0x4b, Ignored::Malformed),
        (ETHERTYPE_IPV4, 3, 19, Ignored::Malformed),
        (ETHERTYPE_IPV4, 3, 41, Ignored::Truncated),
        (ETHERTYPE_IPV6, 0, 0x45, Ignored::Malformed),
        (ETHERTYPE_IPV6, 5, 1, Ignored::Truncated),
    ] {
        write_ethernet_header(&mut frame, US, PEER, ethertype);
        frame[14..].fill(0);
        if ethertype == ETHERTYPE_IPV4 {
            frame[14] = 0x45;
            frame[17] = 40;
        } else {
            frame[14] = 0x60;
        }
        assert_eq!(host.input(&frame).0, Input::Ip(14..54));
        frame[14 + at] = byte;
        host.ignores(&frame, why);
    }
}

#[test]
fn any_frame_cut_short_is_refused() {
    let mut host = Host::new();
    for whole in [
        ARP_REQUEST,
        SOLICITATION,
        DUPLICATE_ADDRESS_DETECTION,
        ADVERTISEMENT,
    ] {
        let whole = with(whole, &[]);
        for len in 0..whole.len() {
            let (input, out) = host.input(&whole[..len]);
            assert!(matches!(input, Input::Ignored(_)), "{len} of {whole:02x?}");
            assert_eq!(out, [[0; 0]; 0]);
        }
    }
}

#[test]
fn frames_for_others() {
    let mut host = Host::new();
    for (digits, destination) in [
        (ARP_REQUEST, PEER),
        (ARP_REQUEST, [0x33, 0x33, 0, 0, 0, 1]),
        (SOLICITATION, PEER),
        (SOLICITATION, [0x33, 0x33, 0xff, 0, 0, 3]),
        (SOLICITATION, [0xff; 6]),
    ] {
        host.ignores(&with(digits, &[(0, &destination)]), Ignored::NotForUs);
    }
    // An IPv4 packet in a frame for everybody (RFC 1122, section 3.3.6).
    let mut frame = vec![0; 34];
    write_ethernet_header(&mut frame, [0xff; 6], PEER, ETHERTYPE_IPV4);
    frame[14] = 0x45;
    frame[17] = 20;
    host.ignores(&frame, Ignored::NotForUs);
    // Questions about others.
    host.ignores(&with(ARP_REQUEST, &[(41, &[3])]), Ignored::NotForUs);
    host.ignores(&with(SOLICITATION, &[(77, &[3])]), Ignored::NotForUs);
    // Our group's hardware address, somebody else's group.
    let other = v6("ff02::1:fe00:2").octets();
    host.ignores(&with(SOLICITATION, &[(38, &other)]), Ignored::NotForUs);
    host.ignores(
        &with(ARP_REQUEST, &[(12, &[0x81, 0])]),
        Ignored::EtherType(0x8100),
    );
    assert_eq!(host.link.neighbours(), 0);
    // Without an IPv6 address we are in none of its groups.
    let mut host = Host::at(US, &[(ip("10.9.0.2"), 24)], &[]);
    host.ignores(&with(ANNOUNCEMENT, &[(6, &PEER)]), Ignored::NotForUs);
}

#[test]
fn arp_that_is_none() {
    for (at, byte) in [
        (15, 6),
        (16, 0x86),
        (18, 8),
        (19, 16),
        (21, 3),
        (21, 0),
        (20, 1),
        (22, 1),
    ] {
        Host::new().ignores(&with(ARP_REQUEST, &[(at, &[byte])]), Ignored::Malformed);
    }
    let nobody = with(ARP_REQUEST, &[(22, &[0; 6])]);
    Host::new().ignores(&nobody, Ignored::Malformed);
}

#[test]
fn neighbour_discovery_that_is_none() {
    let mut host = Host::peer();
    host.resolve("fd00::2");
    host.poll();
    let mut refuses = |frame: &[u8], why| host.ignores(frame, why);
    // It has come through a router.
    refuses(&with(ADVERTISEMENT, &[(21, &[254])]), Ignored::HopLimit);
    let mut damaged = unhex(ADVERTISEMENT);
    damaged[85] ^= 1;
    refuses(&damaged, Ignored::Checksum);
    for (changes, why) in [
        (&[(55, &[1][..])][..], Ignored::Malformed), // code
        (&[(79, &[0])], Ignored::Malformed),         // an option without a length
        (&[(79, &[2])], Ignored::Truncated),         // one that is longer
        (&[(80, &[3])], Ignored::Malformed),         // a group's hardware address
        (&[(80, &[0; 6])], Ignored::Malformed),      // nobody's
        (&[(62, &[0xff, 2])], Ignored::Malformed),   // about a group
        (&[(62, &[0; 16])], Ignored::Malformed),     // about nobody
        (&[(22, &[0; 16])], Ignored::Malformed),     // from nobody
        (&[(22, &[0xff, 2])], Ignored::Malformed),   // from a group
        (&[(38, &ALL_NODES), (0, &ALL_NODES_MAC)], Ignored::Malformed), // solicited by all
        (&[(38, &[0xfe])], Ignored::NotForUs),       // to somebody else
    ] {
        refuses(&with(ADVERTISEMENT, changes), why);
    }
    // An option that is as long as it says, but no Ethernet address.
    let mut long = unhex(ADVERTISEMENT);
    long.extend([0; 8]);
    long[19] += 8;
    long[79] = 2;
    put_checksum(&mut long);
    refuses(&long, Ignored::Malformed);
    // One byte of a further option.
    let mut cut = unhex(ADVERTISEMENT);
    cut.push(1);
    cut[19] += 1;
    put_checksum(&mut cut);
    refuses(&cut, Ignored::Truncated);
    assert_eq!(host.resolve("fd00::2"), Resolved::Pending);
    assert_eq!(host.input(&unhex(ADVERTISEMENT)).0, Input::Handled);

    // A question from nobody in particular must be for the group, and give no address.
    let mut host = Host::new();
    let nobody: (usize, &[u8]) = (22, &[0; 16]);
    host.ignores(&with(SOLICITATION, &[nobody]), Ignored::Malformed);
    let direct = [
        (0, &US[..]),
        (38, &v6("fd00::2").octets()),
        (78, &[14]),
        nobody,
    ];
    host.ignores(&with(SOLICITATION, &direct), Ignored::Malformed);
}

#[test]
fn unknown_options_are_passed_over() {
    let mut frame = unhex(SOLICITATION);
    frame.splice(78..78, [14, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame[19] += 16;
    put_checksum(&mut frame);
    assert_eq!(
        Host::new().input(&frame),
        (Input::Handled, vec![unhex(ADVERTISEMENT)])
    );
}

#[test]
fn a_question_without_an_address_is_answered_where_it_came_from() {
    let mut host = Host::new();
    let mut frame = unhex(SOLICITATION);
    frame.truncate(78);
    frame[19] = 24;
    put_checksum(&mut frame);
    assert_eq!(
        host.input(&frame),
        (Input::Handled, vec![unhex(ADVERTISEMENT)])
    );
    assert_eq!(host.link.neighbours(), 0);
    frame[6] |= 1;
    host.ignores(&frame, Ignored::Malformed);
}

#[test]
fn nobody_is_believed_unasked() {
    let mut host = Host::peer();
    host.ignores(&unhex(ARP_REPLY), Ignored::Unsolicited);
    host.ignores(&unhex(ADVERTISEMENT), Ignored::Unsolicited);
    host.ignores(&unhex(ANNOUNCEMENT), Ignored::Unsolicited);
    // A question from outside our networks is answered, but makes no neighbour.
    // Nor does one from who has no address yet (RFC 5227, section 2.1.1).
    let mut host = Host::new();
    for sender in [
        [192, 0, 2, 7],
        [10, 9, 0, 255],
        [0; 4],
        [255; 4],
        [224, 0, 0, 1],
    ] {
        let question = with(ARP_REQUEST, &[(22, &THIEF), (28, &sender)]);
        let answer = with(ARP_REPLY, &[(0, &THIEF), (32, &THIEF), (38, &sender)]);
        assert_eq!(host.input(&question), (Input::Handled, vec![answer]));
    }
    assert_eq!(host.link.neighbours(), 0);
}

#[test]
fn our_own_addresses_are_ours() {
    let mut host = Host::new();
    let claim = with(ARP_REPLY, &[(0, &[0xff; 6]), (6, &THIEF), (22, &THIEF)]);
    host.ignores(&claim, Ignored::Conflict(ip("10.9.0.2")));
    let claim = with(ANNOUNCEMENT, &[(6, &THIEF), (80, &THIEF)]);
    host.ignores(&claim, Ignored::Conflict(ip("fe80::ff:fe00:b")));
    let from = v6("fd00::2").octets();
    let claim = with(SOLICITATION, &[(22, &from)]);
    host.ignores(&claim, Ignored::Conflict(ip("fd00::2")));
    // A port that gives back what we sent is no conflict.
    let mut out = Vec::new();
    host.link.announce(&mut out);
    for frame in bytes(&out) {
        host.ignores(&frame, Ignored::Reflected);
    }
}
