//! Real Ceph daemons that want to be shown keys, in both connection modes. The tests start their
//! clusters themselves (`ci/ceph-mon`), so they need `ceph-mon` and `ceph-osd`.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use common::{Client, Monitor, json, msgr, text};
use msgr::System;
use msgr_protocol::auth::{Authenticator, Surroundings};
use msgr_protocol::cephx::{Cephx, CryptoKey, Keyring};
use msgr_protocol::{
    AuthName, Config, EntityAddr, EntityName, EntityType, Event, Mode, PerPeer, Policy, State,
    Timestamp,
};

/// -EACCES. A monitor does not say whether it knows the name.
const WRONG_KEY: &str = "method 2 refused with -13";
const MODES: [Mode; 2] = [Mode::Crc, Mode::Secure];

/// A cluster of a monitor and an OSD, or a monitor only, that allows these modes.
fn cluster(modes: &str, with_osd: bool) -> Monitor {
    Monitor::start(&[], |script| {
        script.env("CEPH_AUTH", "cephx").env("CEPH_MODES", modes);
        if with_osd {
            script.env("CEPH_OSD", "1");
        }
        script.spawn().unwrap()
    })
}

fn keyring_file(cluster: &Monitor) -> PathBuf {
    cluster.configuration.with_file_name("keyring")
}

fn admin() -> AuthName {
    "client.admin".parse().unwrap()
}

fn key_of_admin(cluster: &Monitor) -> CryptoKey {
    let text = std::fs::read_to_string(keyring_file(cluster)).unwrap();
    let keyring: Keyring = text.parse().unwrap();
    keyring.get(&admin()).unwrap().clone()
}

/// A keyring of somebody whose key the cluster does not know.
fn made_up_keyring(cluster: &Monitor, name: &str) -> PathBuf {
    let file = cluster
        .configuration
        .with_file_name(format!("{name}.made-up"));
    let key = CryptoKey::generate(&System).to_base64();
    std::fs::write(&file, format!("[{name}]\n\tkey = {}\n", *key)).unwrap();
    file
}

/// `msgr mon` with a keyring.
fn ask(cluster: &Monitor, keyring: &Path, mode: &str, args: &[&str]) -> Output {
    let keyring = keyring.to_str().unwrap();
    let mut all = vec!["mon", &cluster.addr];
    all.extend(["--auth", "cephx", "--keyring", keyring, "--mode", mode]);
    all.extend(["--timeout", "120"]);
    all.extend(args);
    msgr(&all)
}

fn assert_refused(output: &Output, because: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(because), "{error}");
}

fn config(auth: &Arc<Cephx>, mode: Mode) -> Config {
    let name = EntityName {
        kind: EntityType::Client,
        num: i64::try_from(auth.global_id())
            .ok()
            .filter(|id| *id != 0)
            .unwrap_or(-1),
    };
    let auth: Arc<dyn Authenticator> = auth.clone();
    Config {
        auth,
        modes: PerPeer::new(vec![mode]),
        ..Config::new(name, Policy::LOSSY_CLIENT)
    }
}

/// A connection that stays: what is sent on it is answered.
fn connect(auth: &Arc<Cephx>, mode: Mode, kind: EntityType, addr: EntityAddr) {
    let mut client = Client::connect(config(auth, mode), kind, addr);
    assert_eq!(client.connection().state(), State::Ready);
    for sec in 1..=3 {
        let stamp = Timestamp { sec, nsec: 2 };
        client.connection().keepalive(stamp);
        assert_eq!(client.next(), Event::KeepaliveAck(stamp));
    }
}

#[test]
#[ignore = "needs Ceph's daemons"]
fn a_cluster_that_allows_both_modes() {
    let cluster = cluster("crc secure", true);
    let keyring = keyring_file(&cluster);
    for mode in ["crc", "secure", "secure,crc"] {
        let output = ask(&cluster, &keyring, mode, &["status"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("quorum a"));
    }

    let unknown = made_up_keyring(&cluster, "client.nobody");
    let wrong = made_up_keyring(&cluster, "client.admin");
    for mode in ["crc", "secure"] {
        let output = ask(&cluster, &wrong, mode, &["status"]);
        assert_refused(&output, WRONG_KEY);
        let nobody = ["status", "--name", "client.nobody"];
        let output = ask(&cluster, &unknown, mode, &nobody);
        assert_refused(&output, WRONG_KEY);
    }
    let output = msgr(&["mon", &cluster.addr, "status", "--timeout", "120"]);
    assert_refused(
        &output,
        "method 1 refused with -95; the peer allows methods [2], modes [1, 2]",
    );

    // The OSD, where the monitor says that it is.
    let output = ask(&cluster, &keyring, "secure", &["osd", "dump", "--json"]);
    let osd = &json(&output.stdout)["osds"][0]["public_addrs"]["addrvec"][0];
    let osd = format!("v2:{}/{}", osd["addr"].as_str().unwrap(), osd["nonce"]);
    let (mon, osd) = (cluster.addr.parse().unwrap(), osd.parse().unwrap());
    let key = key_of_admin(&cluster);
    for at_monitor in MODES {
        let auth = Arc::new(Cephx::client(admin(), key.clone(), Arc::new(System)));
        connect(&auth, at_monitor, EntityType::Mon, mon);
        let global_id = auth.global_id();
        assert_ne!(global_id, 0);
        assert!(!auth.needs_renewal(System.now()));
        for mode in MODES {
            connect(&auth, mode, EntityType::Osd, osd);
            // The monitor knows us again.
            connect(&auth, mode, EntityType::Mon, mon);
            assert_eq!(auth.global_id(), global_id);
        }
    }
}

#[test]
#[ignore = "needs Ceph's daemons"]
fn a_cluster_that_encrypts() {
    let cluster = cluster("secure", false);
    let keyring = keyring_file(&cluster);
    let output = ask(&cluster, &keyring, "secure", &["status"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = ask(&cluster, &keyring, "crc", &["status"]);
    assert_refused(
        &output,
        "method 2 refused with -95; the peer allows methods [2], modes [2]",
    );
}
