//! A real Ceph monitor as the peer. `ci/test` starts one and names it in `MSGR_TEST_MON`.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Client, json, msgr, text};
use msgr_protocol::auth::AuthNone;
use msgr_protocol::{
    Config, EntityAddr, EntityName, EntityType, Event, Features, Message, Policy, State, Timestamp,
    wire::features,
};

fn mon() -> String {
    std::env::var("MSGR_TEST_MON").expect("MSGR_TEST_MON names a monitor without authentication")
}

fn config() -> Config {
    let name = EntityName {
        kind: EntityType::Client,
        num: -1,
    };
    Config {
        auth: Arc::new(AuthNone::new("client.admin".parse().unwrap())),
        ..Config::new(name, Policy::LOSSY_CLIENT)
    }
}

#[test]
#[ignore = "needs a Ceph monitor"]
fn status_is_printed() {
    let output = msgr(&["mon", &mon(), "status"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let status = text(&output.stdout);
    assert!(
        status.contains("cluster:") && status.contains("quorum a"),
        "{status}"
    );
}

#[test]
#[ignore = "needs a Ceph monitor"]
fn status_as_json_names_the_cluster_and_its_quorum() {
    let output = msgr(&["mon", &mon(), "status", "--json", "--name", "client.admin"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let status = json(&output.stdout);
    assert_eq!(status["quorum_names"], serde_json::json!(["a"]));
    assert_eq!(status["fsid"].as_str().unwrap().len(), 36);
}

#[test]
#[ignore = "needs a Ceph monitor"]
fn a_command_of_several_words_and_one_as_json() {
    let words = msgr(&["mon", &mon(), "mon", "stat", "--json"]);
    let as_json = msgr(&["mon", &mon(), r#"{"prefix":"mon stat","format":"json"}"#]);
    assert!(words.status.success() && as_json.status.success());
    assert_eq!(json(&words.stdout)["leader"], "a");
    assert_eq!(json(&as_json.stdout)["leader"], "a");
}

#[test]
#[ignore = "needs a Ceph monitor"]
fn an_unknown_command_fails_with_the_monitors_words() {
    let output = msgr(&["mon", &mon(), "no", "such", "command"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("command not known"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
#[ignore = "needs a Ceph monitor"]
fn a_monitor_dialled_as_an_osd_is_told_apart() {
    let output = msgr(&["ping", &mon(), "--peer-type", "osd", "--count", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.contains("dialled an entity of type osd, mon answered"),
        "{error}"
    );
}

/// Both frame layouts, against an implementation that is not ours.
#[test]
#[ignore = "needs a Ceph monitor"]
fn both_revisions_carry_keepalives_and_messages() {
    const MON_GET_MAP: u16 = 5;
    const MON_MAP: u16 = 4;
    let addr: EntityAddr = mon().parse().unwrap();
    for supported in [Features::default(), features::REVISION_1] {
        let mut config = config();
        config.banner.supported = supported;
        let mut client = Client::connect(config, EntityType::Mon, addr);
        assert_eq!(client.connection().state(), State::Ready);
        assert!(client.connection().peer().addrs.contains(&addr));

        let stamp = Timestamp { sec: 1, nsec: 2 };
        client.connection().keepalive(stamp);
        let Event::KeepaliveAck(echoed) = client.next() else {
            panic!("no keepalive ack")
        };
        assert_eq!(echoed, stamp);

        let mut get_map = Message::new(MON_GET_MAP);
        get_map.header.compat_version = 0;
        client.send(get_map);
        assert_eq!(client.next(), Event::Message);
        let map = client.connection().take_message();
        assert_eq!(
            (map.header.kind, map.header.seq, map.header.ack_seq),
            (MON_MAP, 1, 1)
        );
        assert!(map.front.len() > 100);
    }
}
