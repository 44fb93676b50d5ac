//! The server's end of a [`Pair`](super::messenger::Pair): a messenger in this process, or in one of
//! its own.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use msgr::{Context, Dispatcher, Messenger, Received, Settings};
use msgr_protocol::{EntityAddr, EntityName, EntityType, Message, Policy};
use msgr_transport::{OpenError, Transport};

use super::protection::Protection;
use super::threads::Threads;
use crate::transports::{Choice, End, Network};

/// The message types of this exchange: whatever comes back whole, and what is only acknowledged.
pub(super) const ECHO: u16 = 2;
pub(super) const SINK: u16 = 3;

/// The settings of either end.
pub(super) fn settings(
    kind: EntityType,
    policy: Policy,
    (core, spin): (Option<usize>, Duration),
) -> Settings {
    let mut settings = Settings::new(EntityName { kind, num: 0 }, policy);
    settings.cores = core.into_iter().collect();
    settings.spin = spin;
    settings.timeouts.shutdown = Duration::from_secs(1);
    settings
}

/// A server that answers requests.
pub(super) struct Server {
    place: Place,
    /// Where it listens.
    pub(super) at: EntityAddr,
}

enum Place {
    Here(Messenger),
    /// It ends when its standard input does, and so with this process, however that ends.
    Elsewhere(Child),
}

impl Server {
    pub(super) fn start(
        network: &Network,
        threads: Threads,
        protection: &Protection,
    ) -> anyhow::Result<Self> {
        if let Some(arguments) = network.server_arguments() {
            return Self::start_elsewhere(&arguments, &network.addresses(), threads, protection);
        }
        let network = network.clone();
        let ips = network.addresses();
        let (messenger, at) = start(
            move || network.open(End::Server),
            &ips,
            (threads.server, threads.spin),
            protection,
        )?;
        let place = Place::Here(messenger);
        Ok(Self { place, at })
    }

    fn start_elsewhere(
        arguments: &[String],
        ips: &[IpAddr],
        threads: Threads,
        protection: &Protection,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("compare-server").args(arguments);
        command.args(ips.iter().map(|ip| format!("--listen={ip}")));
        command.arg(format!("--spin={}", threads.spin.as_micros()));
        command.args(threads.server.map(|core| format!("--core={core}")));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a process for the server")?;
        if let Some(input) = &mut child.stdin {
            writeln!(input, "{}", *protection.to_text())?;
        }
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let at = line.trim().parse();
        let place = Place::Elsewhere(child);
        let at = at.context("the server's process has failed")?;
        Ok(Self { place, at })
    }

    /// What it has done so far, if that can be seen from here.
    #[cfg(test)]
    pub(super) fn totals(&self) -> Option<msgr::Totals> {
        match &self.place {
            Place::Here(messenger) => Some(messenger.totals()),
            Place::Elsewhere(_) => None,
        }
    }

    pub(super) fn finish(&mut self) {
        if let Place::Here(messenger) = &self.place {
            messenger.shutdown();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self {
            Self::Here(messenger) => messenger.shutdown(),
            Self::Elsewhere(child) => {
                drop(child.stdin.take());
                let _ = child.wait();
            }
        }
    }
}

/// Starts a server and binds it to the first address that works.
fn start(
    open: impl Fn() -> Result<Box<dyn Transport>, OpenError> + Clone + Send + 'static,
    ips: &[IpAddr],
    thread: (Option<usize>, Duration),
    protection: &Protection,
) -> anyhow::Result<(Messenger, EntityAddr)> {
    let mut settings = settings(EntityType::Osd, Policy::STATELESS_SERVER, thread);
    protection.apply(End::Server, &mut settings.protocol);
    let server = Messenger::start(settings, open, |_| Echo)?;
    let bind = |&ip: &IpAddr| server.bind(EntityAddr::msgr2(SocketAddr::new(ip, 0), 0));
    let bound = ips.iter().map(bind).reduce(Result::or);
    let bound = bound.context("nowhere to listen")??;
    Ok((server, bound))
}

/// Arguments of `msgr compare-server`, by which `msgr compare` starts a process for a server.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    transport: Choice,
    /// Where it listens: at the first of these that works.
    #[arg(long, required = true)]
    listen: Vec<IpAddr>,
    /// Where its thread runs.
    #[arg(long)]
    core: Option<usize>,
    /// How many microseconds it looks for more before it sleeps.
    #[arg(long)]
    spin: u32,
}

/// Prints where the server listens, and serves until the standard input ends.
pub(crate) fn serve(args: &ServerArgs) -> anyhow::Result<ExitCode> {
    let spin = Duration::from_micros(args.spin.into());
    // Not among the arguments, which everybody can see.
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let protection = Protection::from_text(line.trim())?;
    let (server, at) = start(
        args.transport.opener(1)?,
        &args.listen,
        (args.core, spin),
        &protection,
    )?;
    println!("{at}");
    io::stdin().read_to_end(&mut Vec::new())?;
    server.shutdown();
    Ok(ExitCode::SUCCESS)
}

/// Answers requests.
struct Echo;

impl Dispatcher for Echo {
    fn message(&mut self, context: &mut Context<'_>, request: Received) {
        let mut reply = Message::new(request.header.kind);
        reply.header.tid = request.header.tid;
        if request.header.kind == ECHO {
            let Message { front, data, .. } = request.into_message();
            (reply.front, reply.data) = (front, data);
        }
        if let Err(error) = context.send(reply) {
            tracing::error!("no reply: {error}");
        }
    }
}
