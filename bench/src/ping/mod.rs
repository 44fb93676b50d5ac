//! `msgr ping`: sends messages to an echo server and checks that each reply comes exactly once,
//! in order and intact.

mod pinger;
mod run;

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use msgr::{ConnectError, Fault, FaultCause, Messenger};
use msgr_protocol::{EntityAddr, EntityName, EntityType, Policy, Timestamp};

use self::pinger::{News, Pinger};
use self::run::{Run, Shape};
use crate::NOT_DONE;
use crate::security::Side;
use crate::session::Options;

/// Arguments of `msgr ping`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server, for example v2:127.0.0.1:7100/0.
    addr: EntityAddr,
    /// What kind of entity the server is.
    #[arg(long, value_name = "TYPE", default_value = "osd")]
    peer_type: EntityType,
    /// Who we are.
    #[arg(long, value_name = "TYPE.ID", default_value = "client.0")]
    entity: EntityName,
    /// What happens to the session when its connection breaks.
    #[arg(long, default_value = "lossy-client")]
    policy: Policy,
    /// Where to listen, for policies by which the server connects to us as well.
    #[arg(long, value_name = "ADDR")]
    bind: Option<EntityAddr>,
    /// How many messages to send.
    #[arg(long, default_value_t = 5000)]
    count: u64,
    /// How many may be under way at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// Bytes in each message's front.
    #[arg(long, default_value_t = 100)]
    front: u32,
    /// Bytes in each message's middle.
    #[arg(long, default_value_t = 0)]
    middle: u32,
    /// Bytes in each message's data.
    #[arg(long, default_value_t = 4096)]
    data: u32,
    #[command(flatten)]
    session: Options,
    /// End the session in good order after every K replies, and begin another; 0 means never.
    #[arg(long, value_name = "K", default_value_t = 0)]
    close_every: u64,
    /// The messages' type number.
    #[arg(long = "type", value_name = "NUMBER", default_value_t = 2)]
    kind: u16,
    /// Give up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Sends, checks, and prints the result.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args
        .session
        .settings(args.entity, args.policy, Side::Client)?;
    if args.bind.is_none() && args.policy.is_resumed_by_peer() && !args.policy.server {
        eprintln!(
            "msgr: --policy {}: the server connects to us as well, so --bind ADDR must tell where",
            args.policy
        );
        return Ok(ExitCode::from(crate::USAGE));
    }
    let limits = settings.protocol.limits;
    for (part, len, limit) in [
        ("--front", args.front, limits.front),
        ("--middle", args.middle, limits.middle),
        ("--data", args.data, limits.data),
    ] {
        if len > limit {
            eprintln!("msgr: {part} {len}: the limit is {limit} bytes");
            return Ok(ExitCode::from(crate::USAGE));
        }
    }
    let shape = Shape {
        kind: args.kind,
        front: args.front as usize,
        middle: args.middle as usize,
        data: args.data as usize,
    };
    let (news, heard) = channel();
    let run = Run::new(shape, args.count, args.in_flight, args.close_every);
    let run = Arc::new(Mutex::new(run));
    let backoff = settings.backoff.initial;
    let seed = args.session.seed(&settings);
    let opener = args.session.opener(seed, settings.reactors)?;
    let messenger = Messenger::start(settings, opener, |_| {
        Pinger::new(args.addr, Arc::clone(&run), news.clone())
    })?;
    if let Some(at) = args.bind {
        messenger.bind(at).with_context(|| format!("bind {at}"))?;
    }

    let started = Instant::now();
    let deadline = started + Duration::from_secs(args.timeout);
    let left = || deadline.saturating_duration_since(Instant::now());
    let connect = || -> Result<(), ConnectError> {
        let connection = messenger.connect(args.peer_type, args.addr)?;
        // A peer with nothing to ask would stand by if its first attempt failed.
        connection.keepalive(Timestamp::default());
        Ok(())
    };
    let mut refused_for_good = false;
    let mut complaints = Complaints::default();
    connect()?;
    loop {
        match heard.recv_timeout(left()) {
            Ok(News::Finished) | Err(RecvTimeoutError::Timeout) => break,
            Ok(News::Ended(fault)) if fault.cause == FaultCause::ShutDown => {
                connect()?;
            }
            Ok(News::Ended(fault) | News::Failed(fault)) if fault.is_final() => {
                eprintln!("msgr: {fault}");
                refused_for_good = true;
                break;
            }
            Ok(News::Failed(fault)) => complaints.add(&fault),
            Ok(News::Ended(fault)) => {
                complaints.add(&fault);
                std::thread::sleep(backoff.min(left()));
                connect()?;
            }
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the reactor is gone"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    messenger.shutdown();

    let run = run.lock().unwrap_or_else(PoisonError::into_inner);
    run.print(seconds, &messenger.totals(), seed, args.json);
    Ok(if run.violations() > 0 || refused_for_good {
        ExitCode::FAILURE
    } else if run.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_DONE)
    })
}

/// Tells the user what goes wrong, but not more than once in a while.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    const PAUSE: Duration = Duration::from_secs(1);

    fn add(&mut self, fault: &Fault) {
        if self.last.is_none_or(|last| last.elapsed() > Self::PAUSE) {
            self.last = Some(Instant::now());
            eprintln!("msgr: {fault}");
        } else {
            tracing::info!("{fault}");
        }
    }
}
