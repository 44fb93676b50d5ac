//! `msgr serve`: an echo server.

use std::process::ExitCode;

use anyhow::Context as _;
use msgr::{Context, Dispatcher, Fault, Messenger, Received, Settings, Totals};
use msgr_protocol::{EntityAddr, EntityName, Header, Message, Policy};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::mode::Mode;
use crate::transports::Named;

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
    /// How frames are protected.
    #[arg(long, default_value = "crc")]
    mode: Mode,
    /// What carries the bytes: auto or posix.
    #[arg(long, default_value = "auto")]
    transport: Named,
    /// The number of reactors, each a thread with a share of the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    reactors: u16,
    /// Print the totals as JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Before any thread exists, so that none of them can be killed by the first signal.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let Mode::Crc = args.mode;
    let mut settings = Settings::new(args.entity, args.policy);
    settings.reactors = args.reactors.into();
    let transport = args.transport;
    let messenger = Messenger::start(settings, move || transport.open(), |_| Echo)?;
    let bound = messenger
        .bind(args.bind)
        .with_context(|| format!("bind {}", args.bind))?;
    println!("ready {bound}");
    signals.forever().next();
    messenger.shutdown();
    report(&messenger.totals(), args.json);
    Ok(ExitCode::SUCCESS)
}

fn report(totals: &Totals, json: bool) {
    if json {
        let totals = serde_json::json!({
            "messages": totals.messages_received,
            "bytes": totals.bytes_received,
            "accepted": totals.accepted,
            // A stateless server knows no session that could be resumed.
            "reconnects": 0,
            "resets": totals.resets,
        });
        println!("{totals}");
    } else {
        println!(
            "{} messages, {} bytes, {} connections accepted, {} reset",
            totals.messages_received, totals.bytes_received, totals.accepted, totals.resets
        );
    }
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
        tracing::warn!("{fault}");
    }
}
