//! `msgr mon`: sends one command to a Ceph monitor and prints its answer.

mod messages;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use msgr::{Connection, Context, Dispatcher, Fault, Messenger, Received, Settings};
use msgr_protocol::wire::Malformed;
use msgr_protocol::{AuthName, EntityAddr, EntityName, EntityType, Message, Policy};

use self::messages::{CommandReply, Fsid};
use crate::security::{Security, Side};
use crate::transports::Choice;
use crate::{BACKOFF, NOT_DONE};

/// Arguments of `msgr mon`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The monitor, for example v2:127.0.0.1:3300/0.
    addr: EntityAddr,
    /// The command, as for the ceph tool: `status`, `osd dump`, or JSON with arguments.
    #[arg(required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Who we are.
    #[arg(long, value_name = "TYPE.ID", default_value = "client.admin")]
    name: AuthName,
    /// Ask for the answer as JSON.
    #[arg(long)]
    json: bool,
    /// Give up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    security: Security,
    #[command(flatten)]
    transport: Choice,
}

/// Sends the command and prints the answer.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(command) = messages::command_json(&args.command, args.json) else {
        eprintln!("msgr: the command looks like JSON, but is not an object");
        return Ok(ExitCode::from(crate::USAGE));
    };
    // A client without a number of its own, as Ceph's tools are before they have logged in.
    let name = EntityName {
        kind: args.name.kind,
        num: -1,
    };
    let mut settings = Settings::new(name, Policy::LOSSY_CLIENT);
    args.security
        .apply(&args.name, Side::Client, &mut settings.protocol)?;

    let (news, heard) = channel();
    let mut asker = Some(Asker {
        command,
        news: news.clone(),
    });
    let messenger = Messenger::start(settings, args.transport.opener(1)?, |_| {
        asker.take().expect("there is one reactor")
    })?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let outcome = loop {
        messenger.connect(EntityType::Mon, args.addr)?;
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            // A monitor that is not in quorum (yet) hangs up on those who log in.
            Ok(News::Lost(fault)) if !fault.is_final() => {
                eprintln!("msgr: {fault}; trying again");
                std::thread::sleep(BACKOFF);
            }
            Ok(news) => break Some(news),
            Err(_) => break None,
        }
    };
    messenger.shutdown();
    match outcome {
        Some(News::Reply(reply)) => print(&reply),
        Some(News::Unreadable(error)) => Err(error).context("the monitor's answer"),
        Some(News::Lost(fault)) => Err(fault.into()),
        None => {
            eprintln!("msgr: no answer from {} in {} s", args.addr, args.timeout);
            Ok(ExitCode::from(NOT_DONE))
        }
    }
}

/// What the main thread is told.
enum News {
    Reply(CommandReply),
    Unreadable(Malformed),
    Lost(Fault),
}

fn print(reply: &CommandReply) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    out.write_all(&reply.output)?;
    if reply.output.last().is_some_and(|last| *last != b'\n') {
        out.write_all(b"\n")?;
    }
    if !reply.text.is_empty() {
        eprintln!("{}", reply.text);
    }
    if reply.result == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "msgr: the monitor answered {}",
        std::io::Error::from_raw_os_error(-reply.result)
    );
    Ok(ExitCode::FAILURE)
}

/// Asks for the monitor map, since a command must name the cluster; then sends the command.
struct Asker {
    command: String,
    news: Sender<News>,
}

const MAP_TID: u64 = 1;
const COMMAND_TID: u64 = 2;

impl Asker {
    fn tell(&self, news: News) {
        // The main thread may have given up.
        let _ = self.news.send(news);
    }
}

fn send(context: &mut Context<'_>, tid: u64, mut message: Message) {
    message.header.tid = tid;
    context
        .send(message)
        .expect("an argument list is shorter than the limit of a front");
}

impl Dispatcher for Asker {
    fn connected(&mut self, context: &mut Context<'_>) {
        send(context, MAP_TID, messages::get_map());
    }

    fn message(&mut self, context: &mut Context<'_>, message: Received) {
        let front = message.front.contiguous();
        match message.header.kind {
            messages::MON_MAP => match Fsid::from_mon_map(&front) {
                Ok(fsid) => {
                    send(context, COMMAND_TID, messages::command(fsid, &self.command));
                }
                Err(error) => self.tell(News::Unreadable(error)),
            },
            messages::MON_COMMAND_ACK if message.header.tid == COMMAND_TID => {
                let reply = CommandReply::decode(&front, message.data.contiguous().into_owned());
                self.tell(reply.map_or_else(News::Unreadable, News::Reply));
            }
            // Maps that nobody asked for.
            other => tracing::debug!("ignored a message of type {other}"),
        }
    }

    fn reset(&mut self, _: &Connection, fault: &Fault) {
        self.tell(News::Lost(fault.clone()));
    }
}
