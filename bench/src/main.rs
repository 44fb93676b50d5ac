//! The `msgr` command: compare transports on this host, and talk msgr2 from the command line.
//!
//! One module per subcommand; each parses its own arguments and returns the process's exit code.

mod compare;
mod doctor;
mod mon;
mod ping;
mod security;
mod serve;
mod session;
mod transports;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Ceph's messenger v2 over sockets, userspace TCP and RDMA queue pairs.
#[derive(Debug, Parser)]
#[command(name = "msgr", version, about, long_about = None)]
struct Cli {
    /// What to do; without it: compare.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare every transport that this host has (the default).
    Compare(compare::Args),
    /// The server of a comparison that needs a process of its own.
    #[command(hide = true)]
    CompareServer(compare::ServerArgs),
    /// Run an echo server.
    Serve(serve::Args),
    /// Send messages to an echo server and check the replies.
    Ping(ping::Args),
    /// Send a command to a Ceph monitor.
    Mon(mon::Args),
    /// Tell which transports this host has, and what the others lack.
    Doctor(doctor::Args),
}

/// What a subcommand returns when its arguments make no sense together; clap uses the same.
const USAGE: u8 = 2;
/// What a subcommand returns when its time was up.
const NOT_DONE: u8 = 3;

/// After a broken connection, wait this long before the next; Ceph's `ms_initial_backoff`.
const BACKOFF: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Cli::parse()
        .command
        .unwrap_or(Command::Compare(compare::Args::default()))
    {
        Command::Compare(args) => compare::run(&args),
        Command::CompareServer(args) => compare::serve(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Ping(args) => ping::run(&args),
        Command::Mon(args) => mon::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("msgr: {}", told(&error));
        ExitCode::FAILURE
    })
}

/// An error with its causes, but for those that it tells itself.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told.as_str() {
            "" => cause,
            told if told.ends_with(&cause) => told.to_owned(),
            told => format!("{told}: {cause}"),
        }
    })
}
