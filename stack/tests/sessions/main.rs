//! Sessions of whole messengers: every policy, reconnects, races, restarts.
//!
//! | on | runs |
//! |---|---|
//! | the simulated network | everything; streams are cut, stalled and late at every byte |
//! | userspace TCP on an in-process wire | everything, in virtual time too; the same faults at every frame (`cable`), and frames that are lost, repeated, reordered and damaged |
//! | RDMA without devices, in one process and in virtual time | everything; the same faults at every work request (`fabric`) |
//! | an RDMA device, or two that lose packets | the same as real sockets: `*_on_rdma`, ignored where there is none |
//! | real sockets | what needs neither virtual time nor faults at a certain place: `all_networks!`, `*_on_sockets` |
//!
//! Not on userspace TCP are only `tests/simulated.rs`, which is about single bytes and whose scenarios
//! are here, by frames and by segments of any size, as `reconnects::a_lossy_connection_…` and
//! `basics::segments_of_any_size`; and in `tests/sharing` what has two processes share a host's address,
//! and what is about threads.
//!
//! The scenarios are those that Ceph's own messenger is tested with. Those of
//! `src/test/msgr/test_msgr.cc`:
//!
//! | there | here |
//! |---|---|
//! | `ConnectionRaceTest` | `races::connection_race`, `connection_race_with_one_side_stopped_anywhere` |
//! | `ConnectionRaceReuseBannerTest` | `races::a_stream_that_takes_over_brings_its_handshake` |
//! | `MissingServerIdenTest`, `Test2` | `reconnects::a_stream_cut_after_any_byte_costs_no_message` |
//! | `ReconnectTest` | `reconnects::reconnect` |
//! | `ReconnectRaceTest` | `races::reconnect_race` |
//! | `DumpBasics`, `AdminSocketHook…` | `basics::dump` |
//! | `SimpleTest` | `basics::simple`, `failed_connect` |
//! | `SimpleMsgr2Test` | `basics::a_server_with_several_addresses` |
//! | `FeatureTest` | `basics::feature` |
//! | `TimeoutTest` | `basics::idle_timeout` |
//! | `StatefulTest` | `basics::stateful` |
//! | `StatelessTest` | `basics::stateless` |
//! | `AnonTest` | `basics::anonymous` |
//! | `ClientStandbyTest` | `reconnects::a_server_keeps_what_it_has_for_a_client_that_is_away` |
//! | `AuthTest` | `basics::auth` |
//! | `MessageTest` | `basics::large_messages` |
//! | `ShutdownLossless`, `Lossy`, `Timeout` | `basics::shutdown_delivers_everything`, `shutdown_lossless_survives_faults`, `shutdown_timeout` |
//! | `SyntheticStressTest`, `Test1` | `synthetic::stress_*`, `stress_peers_*` |
//! | `SyntheticInjectTest`, `Test2`, `Test3` | `synthetic::inject_*`, `inject_peers_reuse_*`, `inject_lossy_*` |
//! | `SyntheticInjectTest4` | `synthetic::inject_peers_late` |
//! | `SyntheticInjectTest5` | `congestion::what_is_queued_drains`, `a_backlog_fills_and_empties` |
//! | `MarkdownTest` | `markdown::*` |
//!
//! Those of `src/test/crimson`:
//!
//! | there | here |
//! |---|---|
//! | echo, concurrent dispatch, preemptive shutdown | `basics::echo`, `concurrent_dispatch`, `preemptive_shutdown` |
//! | lossy: `…connect_fault`, `…accept_fault`, `establishing_fault`, … | `a_connection_cut_after_any_byte_ends_with_a_reset_and_no_other_harm` in `tests/simulated.rs` |
//! | lossless: `…connect_fault`, `…accept_fault`, `establishing_fault`, … | `reconnects::a_stream_cut_after_any_byte_costs_no_message`, `a_second_stream_…` |
//! | `peer_…_fault`, `…_reconnect`, `…_reaccept` | the same, with both of the peer policies |
//! | `racing_connect_…`, `racing_reconnect_…`, `racing_connect_reconnect_…` | `races::racing_*` |
//! | `stale_connect`, `stale_accept`, `stale_establishing` | `stale::a_first_stream_that_arrives_late_changes_nothing` |
//! | `stale_reconnect`, `stale_reaccept` | `stale::a_later_stream_that_arrives_late_changes_nothing` |
//! | `lossy_client`, `stateless_server`, …, `lossless_peer_acceptor` | `policies::*` |
//! | `test_messenger_thrash` | `thrash::*` |

#![allow(clippy::unwrap_used, clippy::struct_excessive_bools)]
// Processes are numbered from 1, as entities are.
#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod basics;
mod budgets;
mod cable;
mod campaign;
mod cancel;
mod chance;
mod congestion;
mod fabric;
mod hosts;
mod keys;
mod ledger;
mod markdown;
mod networks;
mod plans;
mod policies;
mod races;
mod reconnects;
mod segment;
mod stale;
mod synthetic;
mod thrash;
mod workload;
mod world;
