//! Features: what one end requires and the other has not, in the banner and in the ident frames.

use super::pair::{Chop, Pair};
use super::script::{
    End, banner, client_config, client_ident, feed, frame, server_config, server_ident, transmitted,
};
use crate::config::{Config, FeaturePair};
use crate::connection::{Event, State};
use crate::error::{Cause, PeerIncompatible};
use crate::frame::Revision;
use crate::wire::{ClientIdent, Features, IdentMissingFeatures, ServerIdent, features};

/// A feature that nobody has.
const FUTURE: Features = Features(1 << 63);

fn of(supported: Features, required: Features) -> FeaturePair {
    FeaturePair {
        supported,
        required,
    }
}

#[test]
fn banners_on_the_wire() {
    let none = Features::default();
    let both = Features(features::REVISION_1.0 | features::COMPRESSION.0);
    assert_eq!(
        banner(both, none),
        b"ceph v2\n\x10\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    );
    assert_eq!(
        banner(none, Features(0x0102_0304_0506_0708)),
        b"ceph v2\n\x10\0\0\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01"
    );
}

#[test]
fn a_banner_that_lacks_or_requires_too_much() {
    let none = Features::default();
    for end in End::BOTH {
        let make = |required| {
            let mut config = end.config();
            config.banner.required = required;
            move || end.connection(config.clone())
        };
        end.refuses(
            make(features::REVISION_1),
            &banner(features::COMPRESSION, none),
            PeerIncompatible::PeerLacksBannerFeatures(features::REVISION_1),
            "the peer lacks msgr2 features 0x1",
        );
        end.refuses(
            make(none),
            &banner(Features(3), Features(3)),
            PeerIncompatible::WeLackBannerFeatures(features::COMPRESSION),
            "the peer requires msgr2 features 0x2",
        );
        // As the Linux kernel's client: revision 1 and nothing else.
        let mut connection = make(features::REVISION_1)();
        feed(
            &mut connection,
            &banner(features::REVISION_1, features::REVISION_1),
        )
        .unwrap();
        assert_eq!(connection.state(), end.states()[1]);
    }
}

#[test]
fn each_end_says_why_their_banners_do_not_fit() {
    for (ours, theirs) in [(features::REVISION_1, Features(0)), (FUTURE, Features(1))] {
        let mut client = client_config();
        client.banner = of(Features(1 << 63 | 1), ours);
        let mut server = server_config();
        server.banner = of(theirs, Features(0));
        let mut pair = Pair::new(client, server);
        pair.settle(Chop::WHOLE);
        let cause = |error: Option<crate::ConnectionError>| error.unwrap().cause;
        assert_eq!(
            cause(pair.client.error),
            Cause::from(PeerIncompatible::PeerLacksBannerFeatures(ours))
        );
        assert_eq!(
            cause(pair.server.error),
            Cause::from(PeerIncompatible::WeLackBannerFeatures(ours))
        );
    }
}

#[test]
fn a_longer_banner_is_left_to_later_versions() {
    for end in End::BOTH {
        for len in [17u16, 24, 256] {
            let mut longer = banner(Features(1), Features(0));
            longer[8..10].copy_from_slice(&len.to_le_bytes());
            longer.resize(10 + usize::from(len), 0xee);
            for size in [1, longer.len()] {
                let mut connection = end.connection(end.config());
                for piece in longer.chunks(size) {
                    assert_eq!(connection.state(), end.states()[0]);
                    feed(&mut connection, piece).unwrap();
                }
                assert_eq!(connection.state(), end.states()[1]);
                assert!(!connection.is_mid_frame());
            }
        }
    }
}

#[test]
fn an_acceptor_names_the_features_that_it_misses() {
    let mut config = server_config();
    config.features.required = Features(FUTURE.0 | features::MSG_ADDR2.0);
    let mut connection = End::Acceptor.reach_as(config, Revision::Rev1, State::SessionAccepting);
    let missing = frame(&IdentMissingFeatures { features: FUTURE });
    for _ in 0..2 {
        assert_eq!(feed(&mut connection, &frame(&client_ident())).unwrap(), []);
        assert_eq!(transmitted(&mut connection), missing);
        assert_eq!(connection.state(), State::SessionAccepting);
    }
    // It may come again with more.
    let more = ClientIdent {
        supported: Features(u64::MAX),
        ..client_ident()
    };
    let told = feed(&mut connection, &frame(&more)).unwrap();
    assert_eq!(told, [Event::Ready]);
}

#[test]
fn a_connector_that_lacks_features() {
    let make = || End::Connector.reach(State::SessionConnecting);
    let required = ServerIdent {
        required: Features(FUTURE.0 | features::MSG_ADDR2.0),
        supported: Features(u64::MAX),
        ..server_ident()
    };
    for bytes in [
        frame(&IdentMissingFeatures { features: FUTURE }),
        frame(&required),
    ] {
        End::Connector.refuses(
            make,
            &bytes,
            PeerIncompatible::WeLackFeatures(FUTURE),
            "the peer requires features 0x8000000000000000",
        );
    }
}

#[test]
fn an_acceptor_that_lacks_features() {
    let poor = ServerIdent {
        supported: Features(1),
        required: Features(0),
        ..server_ident()
    };
    End::Connector.refuses(
        || End::Connector.reach(State::SessionConnecting),
        &frame(&poor),
        PeerIncompatible::PeerLacksFeatures(features::MSG_ADDR2),
        "the peer lacks features 0x800000000000000",
    );
}

#[test]
fn two_ends_of_which_one_requires_too_much() {
    let requires = |mut config: Config| {
        config.features.supported = Features(u64::MAX);
        config.features.required = FUTURE;
        config
    };
    let mut pair = Pair::new(client_config(), requires(server_config()));
    pair.settle(Chop::WHOLE);
    let error = pair.client.error.unwrap();
    assert_eq!(error.cause, PeerIncompatible::WeLackFeatures(FUTURE).into());
    assert!(pair.client.events.is_empty() && pair.server.events.is_empty());

    let mut pair = Pair::new(requires(client_config()), server_config());
    pair.settle(Chop::WHOLE);
    let error = pair.client.error.unwrap();
    assert_eq!(
        error.cause,
        PeerIncompatible::PeerLacksFeatures(FUTURE).into()
    );
    assert!(pair.client.events.is_empty());
}

#[test]
fn what_both_have_is_what_counts() {
    let supports = |mut config: Config, bits: u64| {
        config.features.supported = Features(features::MSG_ADDR2.0 | bits);
        config
    };
    let client = supports(client_config(), 0b0110);
    let pair = Pair::ready(client, supports(server_config(), 0b0011));
    for side in [&pair.client, &pair.server] {
        let both = Features(features::MSG_ADDR2.0 | 0b0010);
        assert_eq!(side.connection.peer().features, both);
    }
}
