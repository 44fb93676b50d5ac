//! `msgr doctor`: which transports this host has, and what the others lack.

use std::process::ExitCode;

use crate::transports::{Finding, findings};

/// Arguments of `msgr doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print an array of objects instead of text.
    #[arg(long)]
    json: bool,
}

/// Prints what was found.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let findings = findings();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        findings.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(finding: &Finding) {
    println!("{:7}{}", finding.name, finding.status);
    if !finding.host.is_empty() {
        println!("{:7}what it will need, and what this host has:", "");
    }
    for fact in &finding.host {
        println!("{:7}- {fact}", "");
    }
}
