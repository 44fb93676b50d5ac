//! `msgr compare`: every transport that this host has, in one run, next to a hand-written loop
//! over a TCP socket.
//!
//! Figures of a shared machine drift by far more than what is to be seen. So all contenders take
//! short turns one right after the other, round by round, and what counts is the ratio to the
//! control in the same round.

mod case;
mod contender;
mod host;
mod messenger;
mod progress;
mod protection;
mod raw;
mod results;
mod server;
mod table;
mod threads;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use self::case::{CASES, Case};
use self::contender::Contender;
use self::host::Host;
use self::messenger::Pair;
use self::progress::Progress;
use self::protection::Mode;
use self::raw::Raw;
use self::results::Results;
pub(crate) use self::server::{ServerArgs, serve};
use self::threads::Threads;
use crate::transports::{Finding, Network, Status, findings};

/// Rounds per run; odd, so that a median is one of them.
const ROUNDS: usize = 7;

/// Arguments of `msgr compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to measure, in all.
    #[arg(long, value_name = "SECONDS", default_value_t = 40,
          value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Compare only these transports, separated by commas; the control is always there.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    transport: Vec<String>,
    /// Measure only the cases whose name contains this, for example "round trip".
    #[arg(long, value_name = "TEXT", default_value = "")]
    case: String,
    /// How frames are protected: one way, or several in turn, to see what they cost.
    #[arg(
        long,
        value_name = "MODE",
        value_delimiter = ',',
        default_value = "crc"
    )]
    mode: Vec<Mode>,
    /// How many microseconds whoever has nothing to do looks for more before it sleeps.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 50)]
    spin: u32,
    /// Write everything, the figures of each round included, to a file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            seconds: 40,
            transport: Vec::new(),
            case: String::new(),
            mode: vec![Mode::Crc],
            spin: 50,
            json: None,
        }
    }
}

/// The first is the control.
type Contenders = Vec<Box<dyn Contender>>;

/// What could not be set up.
#[derive(Debug, serde::Serialize)]
struct Absent {
    name: &'static str,
    reason: String,
}

/// Measures and prints the table.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let findings = findings();
    if let Some(unknown) = args
        .transport
        .iter()
        .find(|name| !findings.iter().any(|finding| is_part(finding, name)))
    {
        let known = findings
            .iter()
            .flat_map(|finding| Network::names(finding.name));
        let known: Vec<_> = known.copied().collect();
        eprintln!(
            "msgr: unknown transport {unknown:?}, one of: {}",
            known.join(", ")
        );
        return Ok(ExitCode::from(crate::USAGE));
    }
    let wanted = |case: &Case| case.to_string().contains(&args.case);
    let cases: Vec<_> = CASES.into_iter().filter(wanted).collect();
    if cases.is_empty() {
        let known = CASES.map(|case| case.to_string());
        eprintln!(
            "msgr: no case is named like {:?}, there are: {}",
            args.case,
            known.join("; ")
        );
        return Ok(ExitCode::from(crate::USAGE));
    }
    let threads = Threads::choose(Duration::from_micros(args.spin.into()));
    let (mut contenders, absent) = contenders(&findings, args, threads)?;
    let host = Host::describe(threads);
    println!("{host}");

    let turns = cases.len() * contenders.len() * ROUNDS;
    let turn = Duration::from_secs(args.seconds.into()) / turns as u32;
    let figures = measure(&mut contenders, &cases, turn)?;
    let names = contenders
        .iter()
        .map(|contender| contender.name().to_owned())
        .collect();
    for contender in &mut contenders {
        contender.finish();
    }

    let results = Results::new(names, &cases, figures);
    println!(
        "{}\n\n{}",
        table::table(&results),
        table::legend(&results, ROUNDS)
    );
    for finding in &findings {
        if let Status::Missing { reason, .. } = &finding.status {
            println!("{}", table::absence(finding.name, reason, &finding.host));
        }
    }
    for Absent { name, reason } in &absent {
        println!("{}", table::absence(name, reason, &[]));
    }
    if let Some(path) = &args.json {
        let report = serde_json::json!({
            "host": host,
            "rounds": ROUNDS,
            "turn_seconds": turn.as_secs_f64(),
            "results": results,
            "transports": findings,
            "absent": absent,
        });
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether `name` is that of a transport, or of something that it is compared on.
fn is_part(finding: &Finding, name: &str) -> bool {
    finding.name == name || Network::names(finding.name).contains(&name)
}

/// The control, and each transport that is here and wanted. What was not asked for by its name, and
/// cannot be set up, is left out.
fn contenders(
    findings: &[Finding],
    args: &Args,
    threads: Threads,
) -> anyhow::Result<(Contenders, Vec<Absent>)> {
    let wanted = &args.transport;
    let mut contenders: Contenders = vec![Box::new(Raw::new(threads)?)];
    let mut absent = Vec::new();
    for finding in findings {
        let asked_for = wanted.iter().find(|wanted| is_part(finding, wanted));
        match (&finding.status, asked_for) {
            (Status::Missing { .. }, Some(name)) => bail!("{name} is {}", finding.status),
            (Status::Missing { .. }, None) => continue,
            (Status::Available { .. }, _) => {}
        }
        for name in Network::names(finding.name) {
            let is_wanted = |wanted: &String| wanted == finding.name || wanted == name;
            if wanted.is_empty() || wanted.iter().any(is_wanted) {
                for mode in &args.mode {
                    let network = Network::new(name);
                    let pair =
                        network.and_then(|network| Pair::new(name, *mode, threads, &network));
                    match pair {
                        Ok(pair) => contenders.push(Box::new(pair)),
                        Err(error) if wanted.iter().any(|wanted| wanted == name) => {
                            return Err(error.context(*name));
                        }
                        Err(error) => absent.push(Absent {
                            name,
                            reason: format!("{error:#}"),
                        }),
                    }
                }
            }
        }
    }
    Ok((contenders, absent))
}

/// The figures by case, contender and round.
fn measure(
    contenders: &mut [Box<dyn Contender>],
    cases: &[Case],
    turn: Duration,
) -> anyhow::Result<Vec<Vec<Vec<f64>>>> {
    let mut figures = vec![vec![Vec::with_capacity(ROUNDS); contenders.len()]; cases.len()];
    let progress = Progress::new(ROUNDS, cases.len() * contenders.len());
    for round in 0..ROUNDS {
        for (case, figures) in cases.iter().zip(&mut figures) {
            for (contender, figures) in contenders.iter_mut().zip(figures) {
                progress.turn(round, contender.name(), *case);
                let sample = contender.run(*case, turn);
                let sample = sample.with_context(|| format!("{}: {case}", contender.name()))?;
                figures.push(sample.figure);
            }
        }
    }
    progress.finish();
    Ok(figures)
}
