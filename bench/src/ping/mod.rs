//! `msgr ping`: sends messages to an echo server and checks that each reply comes exactly once,
//! in order and intact.

mod run;

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use msgr::{Messenger, Settings};
use msgr_protocol::{EntityAddr, EntityName, EntityType, Policy};

use self::run::{News, Pinger, Run, Shape};
use crate::mode::Mode;
use crate::transports::Named;
use crate::{BACKOFF, NOT_DONE};

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
    /// How frames are protected.
    #[arg(long, default_value = "crc")]
    mode: Mode,
    /// The messages' type number.
    #[arg(long = "type", value_name = "NUMBER", default_value_t = 2)]
    kind: u16,
    /// Give up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// What carries the bytes: auto or posix.
    #[arg(long, default_value = "auto")]
    transport: Named,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Sends, checks, and prints the result.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Mode::Crc = args.mode;
    let settings = Settings::new(args.entity, args.policy);
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
    let state = Arc::new(Mutex::new(Run::new(shape, args.count, args.in_flight)));
    let transport = args.transport;
    let messenger = Messenger::start(
        settings,
        move || transport.open(),
        |_| Pinger::new(Arc::clone(&state), news.clone()),
    )?;

    let started = Instant::now();
    let deadline = started + Duration::from_secs(args.timeout);
    let mut refused_for_good = false;
    messenger.connect(args.peer_type, args.addr)?;
    loop {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Finished) | Err(RecvTimeoutError::Timeout) => break,
            Ok(News::Lost(fault)) => {
                eprintln!("msgr: {fault}");
                if fault.is_final() {
                    refused_for_good = true;
                    break;
                }
                std::thread::sleep(BACKOFF.min(deadline.saturating_duration_since(Instant::now())));
                messenger.connect(args.peer_type, args.addr)?;
            }
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the reactor is gone"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    messenger.shutdown();

    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.print(seconds, args.json);
    Ok(if state.violations() > 0 || refused_for_good {
        ExitCode::FAILURE
    } else if state.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_DONE)
    })
}
