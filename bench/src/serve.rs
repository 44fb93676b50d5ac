//! `msgr serve`: an echo server.

use std::process::ExitCode;

use anyhow::Context as _;
use msgr::{Context, Dispatcher, Fault, Messenger, Received, Totals};
use msgr_protocol::{EntityAddr, EntityName, Header, Message, Policy};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::security::Side;
use crate::session::{Options, print_faults};

/// Arguments of `msgr serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen, for example v2:127.0.0.1:7100/0; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR")]
    bind: EntityAddr,
    /// Who we are.
    #[arg(long, value_name = "TYPE.ID", default_value = "osd.0")]
    entity: EntityName,
    /// What happens to a session when its connection breaks.
    #[arg(long, default_value = "stateless-server")]
    policy: Policy,
    #[command(flatten)]
    session: Options,
    /// The number of reactors, each a thread with a share of the connections, over DPDK with a queue
    /// of the port; sessions that are kept for their peers live on a single one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    reactors: u16,
    /// Print the totals as JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.reactors > 1 && args.policy.is_registered() {
        eprintln!(
            "msgr: --reactors {}: a {} finds its peers' sessions on a single reactor",
            args.reactors, args.policy
        );
        return Ok(ExitCode::from(crate::USAGE));
    }
    // Before any thread exists, so that none of them can be killed by the first signal.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let mut settings = args
        .session
        .settings(args.entity, args.policy, Side::Server)?;
    settings.reactors = args.reactors.into();
    let seed = args.session.seed(&settings);
    let opener = args.session.opener(seed, settings.reactors)?;
    let messenger = Messenger::start(settings, opener, |_| Echo)?;
    let bound = messenger
        .bind(args.bind)
        .with_context(|| format!("bind {}", args.bind))?;
    println!("ready {bound}");
    signals.forever().next();
    messenger.shutdown();
    report(&messenger.totals(), seed, args.json);
    Ok(ExitCode::SUCCESS)
}

fn report(totals: &Totals, seed: Option<u64>, json: bool) {
    if json {
        let totals = serde_json::json!({
            "messages": totals.messages_received,
            "bytes": totals.bytes_received,
            "accepted": totals.accepted,
            "reconnects": totals.reconnects,
            "resets": totals.resets,
            "remote_resets": totals.remote_resets,
            "replays": totals.replayed,
            "interruptions": totals.interruptions,
            "auth_refused": totals.auth_refused,
            "turned_away": totals.turned_away,
            "malformed": totals.malformed,
            "peer_misbehaved": totals.peer_misbehaved,
            "peer_incompatible": totals.peer_incompatible,
            "broken": totals.broken,
            "timed_out": totals.timed_out,
            "seed": seed,
        });
        println!("{totals}");
        return;
    }
    println!(
        "{} messages, {} bytes, {} connections accepted",
        totals.messages_received, totals.bytes_received, totals.accepted
    );
    print_faults(totals, totals.reconnects, seed);
}

/// Answers every message with itself.
struct Echo;

impl Dispatcher for Echo {
    fn message(&mut self, context: &mut Context<'_>, message: Received) {
        let Header {
            tid,
            kind,
            version,
            priority,
            compat_version,
            ..
        } = message.header;
        let header = Header {
            tid,
            kind,
            version,
            priority,
            compat_version,
            ..Header::default()
        };
        if let Err(refusal) = context.send(Message {
            header,
            ..message.into_message()
        }) {
            // A reply left out would be a gap that the client cannot explain.
            tracing::warn!("{:?}: hanging up: {refusal}", context.connection());
            context.mark_down();
        }
    }

    fn rejected(&mut self, fault: &Fault) {
        // Who merely hangs up comes again.
        if fault.is_final() {
            tracing::warn!("{fault}");
        } else {
            tracing::info!("{fault}");
        }
    }
}
