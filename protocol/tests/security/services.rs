//! Connections to a service, with tickets of a monitor.

use msgr_protocol::auth::AuthError;
use msgr_protocol::cephx::{CryptoKey, RotatingSecrets};
use msgr_protocol::{Cause, Config, EntityType, Mode, PeerIncompatible, Timestamp};

use crate::cast::{CLIENT_NAME, Cast, SECRET_VALIDITY, config, monitor_addr, osd_addr};
use crate::link::{ACCEPTOR, CONNECTOR, Link};

/// The two ends of a connection to the OSD, and before that the client has got its tickets.
pub(crate) fn with_ticket(cast: &Cast, mode: Mode) -> (Config, Config) {
    let monitor = config(
        EntityType::Mon,
        Some(monitor_addr()),
        cast.monitor.clone(),
        &[mode],
    );
    let client = config(EntityType::Client, None, cast.client.clone(), &[mode]);
    let mut link = Link::new(client.clone(), monitor, monitor_addr());
    link.run();
    assert!(link.are_ready());
    let osd = config(EntityType::Osd, Some(osd_addr()), cast.osd.clone(), &[mode]);
    (client, osd)
}

fn connect((client, osd): (Config, Config)) -> Link {
    let mut link = Link::new(client, osd, osd_addr());
    link.run();
    link
}

#[test]
fn a_ticket_opens_the_service() {
    for mode in [Mode::Crc, Mode::Secure] {
        let cast = Cast::new();
        let ends = with_ticket(&cast, mode);
        for _ in 0..2 {
            let link = connect(ends.clone());
            assert!(link.are_ready(), "{:?}", link.ends[CONNECTOR].error);
            let peer = link.ends[ACCEPTOR].connection.peer();
            assert_eq!(peer.mode, Some(mode));
            assert_eq!(
                peer.principal.as_ref().unwrap().name.to_string(),
                CLIENT_NAME
            );
            assert_eq!(peer.global_id, cast.client.global_id());
        }
    }
}

#[test]
fn expired_tickets_are_refused() {
    for mode in [Mode::Crc, Mode::Secure] {
        let cast = Cast::new();
        let (client, osd) = with_ticket(&cast, mode);
        // The service's clock is the one that counts.
        let later = Cast::new();
        later.world.pass(SECRET_VALIDITY);
        let auth = later.osd.clone();
        let link = connect((
            client.clone(),
            Config {
                auth,
                ..osd.clone()
            },
        ));
        assert!(!link.ends[CONNECTOR].ready && !link.ends[ACCEPTOR].ready);
        assert_eq!(link.ends[ACCEPTOR].refused.len(), 1);
        assert_eq!(link.ends[ACCEPTOR].refused[0].errno(), 13);
        let error = link.ends[CONNECTOR].error.as_ref().unwrap().to_string();
        assert!(error.contains("refused with -13"), "{error}");

        cast.world.pass(SECRET_VALIDITY);
        let link = connect((client, osd));
        let error = link.ends[CONNECTOR].error.as_ref().unwrap();
        assert!(
            matches!(
                error,
                Cause::PeerIncompatible(PeerIncompatible::CannotAuthenticate(_))
            ),
            "by its own clock the client need not try: {error}"
        );
    }
}

/// Who has recorded a whole connection plays the connector's part to the service again.
#[test]
fn replayed_connections_are_refused() {
    for mode in [Mode::Crc, Mode::Secure] {
        let cast = Cast::new();
        let (client, osd) = with_ticket(&cast, mode);
        let recorded = connect((client.clone(), osd.clone())).ends[CONNECTOR]
            .sent
            .clone();
        let mut link = Link::new(client, osd, osd_addr());
        let acceptor = &mut link.ends[ACCEPTOR];
        acceptor.receive(&recorded);
        assert!(!acceptor.ready && acceptor.connection.peer().principal.is_none());
        assert_eq!(acceptor.refused.len(), 1, "{:?}", acceptor.error);
        assert_eq!(acceptor.refused[0].errno(), 13);
    }
}

/// A ticket that was encrypted with another secret than the service's.
#[test]
fn forged_tickets_are_refused() {
    for mode in [Mode::Crc, Mode::Secure] {
        let cast = Cast::new();
        let (client, _) = with_ticket(&cast, mode);
        let others = Cast::new();
        let mut secrets = RotatingSecrets::default();
        let never = Timestamp {
            sec: u32::MAX,
            nsec: 0,
        };
        let secret = CryptoKey::new(b"another secret!!", Timestamp::default());
        secrets.insert(3, secret, never);
        others.osd.set_secrets(EntityType::Osd, secrets);
        let osd = config(
            EntityType::Osd,
            Some(osd_addr()),
            others.osd.clone(),
            &[mode],
        );
        let link = connect((client, osd));
        let acceptor = &link.ends[ACCEPTOR];
        assert!(!acceptor.ready && !link.ends[CONNECTOR].ready);
        assert!(
            matches!(acceptor.refused[..], [AuthError::ForgedAuthorizer]),
            "{:?} {:?}",
            acceptor.refused,
            acceptor.error
        );
    }
}
