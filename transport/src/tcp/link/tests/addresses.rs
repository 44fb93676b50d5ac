//! Which addresses a link can have, and which way packets go.

use super::super::LinkError;
use super::*;

fn refused(addresses: &[(&str, u8)], gateways: &[&str]) -> LinkError {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|&(text, len)| (ip(text), len))
        .collect();
    let gateways: Vec<_> = gateways.iter().map(|text| ip(text)).collect();
    let link = Link::<()>::new(US, &addresses, &gateways);
    link.err().expect("an error")
}

#[test]
fn addresses_that_nobody_can_have() {
    for (text, len) in [
        ("0.0.0.0", 0),
        ("0.1.2.3", 8),
        ("127.0.0.1", 8),
        ("224.0.0.1", 4),
        ("255.255.255.255", 32),
        ("10.9.0.255", 24),
        ("::", 0),
        ("::1", 128),
        ("ff02::1", 64),
    ] {
        assert_eq!(refused(&[(text, len)], &[]), LinkError::Address(ip(text)));
    }
    for (text, len) in [("10.9.0.1", 33), ("fd00::1", 129), ("fd00::1", 255)] {
        assert_eq!(
            refused(&[(text, len)], &[]),
            LinkError::Prefix(ip(text), len)
        );
    }
    let twice = [("10.9.0.1", 24), ("10.9.0.1", 16)];
    assert_eq!(refused(&twice, &[]), LinkError::Duplicate(ip("10.9.0.1")));
    for mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        assert_eq!(
            Link::<()>::new(mac, &[], &[]).err(),
            Some(LinkError::Mac(mac))
        );
    }
}

#[test]
fn gateways_are_on_the_link() {
    let own = [("10.9.0.1", 24), ("fd00::1", 64)];
    for gateway in [
        "10.9.0.1",
        "10.9.1.1",
        "10.9.0.255",
        "fd00::1",
        "fd01::1",
        "ff02::2",
    ] {
        assert_eq!(refused(&own, &[gateway]), LinkError::Gateway(ip(gateway)));
    }
    let two = refused(&own, &["10.9.0.3", "fe80::3", "fd00::4"]);
    assert_eq!(two, LinkError::Gateways(ip("fd00::4")));
}

#[test]
fn the_way_to_a_destination() {
    let addresses = [(ip("10.9.0.1"), 24), (ip("fd00::1"), 64)];
    let gateways = [ip("10.9.0.254"), ip("fe80::fe")];
    let with_gateways = Host::at(US, &addresses, &gateways).link;
    let without = Host::at(US, &addresses, &[]).link;
    for (destination, hop, source) in [
        ("10.9.0.77", Some("10.9.0.77"), Some("10.9.0.1")),
        ("10.9.1.77", Some("10.9.0.254"), Some("10.9.0.1")),
        ("10.9.0.255", None, Some("10.9.0.1")),
        ("255.255.255.255", None, Some("10.9.0.1")),
        ("224.0.0.1", None, Some("10.9.0.1")),
        ("127.0.0.1", None, Some("10.9.0.1")),
        ("fd00::77", Some("fd00::77"), Some("fd00::1")),
        ("2001:db8::1", Some("fe80::fe"), Some("fd00::1")),
        ("fe80::77", Some("fe80::77"), Some("fe80::ff:fe00:b")),
        // In no network of ours, and not to be forwarded.
        ("fe80:1::77", None, Some("fe80::ff:fe00:b")),
        ("ff02::1", None, Some("fd00::1")),
        ("::", None, Some("fd00::1")),
    ] {
        let destination = ip(destination);
        assert_eq!(
            with_gateways.next_hop(destination),
            hop.map(ip),
            "{destination}"
        );
        let forwarded = hop.is_some_and(|hop| gateways.contains(&ip(hop)));
        let direct = hop.filter(|_| !forwarded).map(ip);
        assert_eq!(without.next_hop(destination), direct, "{destination}");
        assert_eq!(
            with_gateways.source_for(destination),
            source.map(ip),
            "{destination}"
        );
    }
}

#[test]
fn the_source_is_in_the_network_of_the_next_hop() {
    let addresses = [
        (ip("192.0.2.1"), 24),
        (ip("10.0.0.1"), 8),
        (ip("10.9.0.1"), 24),
        (ip("10.9.0.5"), 24),
        (ip("172.16.0.1"), 31),
    ];
    let link = Host::at(US, &addresses, &[ip("10.9.0.254")]).link;
    for (destination, source) in [
        ("192.0.2.9", "192.0.2.1"),
        ("10.8.0.1", "10.0.0.1"),
        ("10.9.0.9", "10.9.0.1"),
        ("10.9.0.5", "10.9.0.5"),
        ("172.16.0.0", "172.16.0.1"),
    ] {
        assert_eq!(link.source_for(ip(destination)), Some(ip(source)));
        assert_eq!(link.next_hop(ip(destination)), Some(ip(destination)));
    }
    assert_eq!(link.source_for(ip("203.0.113.1")), Some(ip("10.9.0.1")));
    assert_eq!(link.source_for(ip("fd00::1")), None);
    assert_eq!(link.next_hop(ip("fd00::1")), None);
}

#[test]
fn the_link_local_address_comes_by_itself() {
    let addresses = |addresses: &[(IpAddr, u8)]| {
        let link = Host::at(US, addresses, &[]).link;
        link.addresses().collect::<Vec<_>>()
    };
    let v4 = (ip("10.9.0.1"), 0);
    let global = (ip("fd00::1"), 128);
    let chosen = (ip("fe80::7"), 64);
    assert_eq!(addresses(&[v4]), [v4]);
    assert_eq!(
        addresses(&[global, v4]),
        [global, v4, (ip("fe80::ff:fe00:b"), 64)]
    );
    assert_eq!(addresses(&[chosen, v4]), [chosen, v4]);
}
