//! [`Options`]: what `msgr serve` and `msgr ping` have in common: how bytes travel, and what
//! happens when they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use msgr::{Backoff, Settings, Totals};
use msgr_protocol::{EntityName, Policy};
use msgr_transport::middleware::{FaultInjector, Injection};
use msgr_transport::{OpenError, Transport};

use crate::security::{Security, Side};
use crate::transports::Choice;

/// How long a process that is to end waits for what it has queued. A peer that is gone for good
/// would be waited for in vain.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Arguments of both commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    security: Security,
    /// Milliseconds to wait after a failed attempt to connect; twice as long after each further.
    #[arg(long, value_name = "MS", default_value_t = 200,
        value_parser = clap::value_parser!(u64).range(1..))]
    initial_backoff: u64,
    /// The most milliseconds to wait between attempts to connect.
    #[arg(long, value_name = "MS", default_value_t = 15_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    max_backoff: u64,
    /// Break connections by chance: one socket operation in N fails; 0 means none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    inject_socket_failures: u32,
    /// Which operations fail; the system chooses unless this does. Printed with the result.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    transport: Choice,
}

impl Options {
    /// The settings of the entity `name`, with one `policy` for all peers.
    ///
    /// # Errors
    /// What we are to be, or to let in, cannot be shown.
    pub(crate) fn settings(
        &self,
        name: EntityName,
        policy: Policy,
        side: Side,
    ) -> anyhow::Result<Settings> {
        let mut settings = Settings::new(name, policy);
        settings.backoff = Backoff {
            initial: Duration::from_millis(self.initial_backoff),
            longest: Duration::from_millis(self.max_backoff),
        };
        settings.timeouts.shutdown = SHUTDOWN;
        self.security
            .apply(&name.into(), side, &mut settings.protocol)?;
        Ok(settings)
    }

    /// What decides which operations fail; `None` if none shall.
    pub(crate) fn seed(&self, settings: &Settings) -> Option<u64> {
        // Of the system's choice 32 bits: more than 53 would not survive in every JSON reader.
        let chosen = || u64::from(settings.seed as u32);
        (self.inject_socket_failures > 0).then(|| self.seed.unwrap_or_else(chosen))
    }

    /// What opens a transport for each reactor, the next with the next seed.
    pub(crate) fn opener(
        &self,
        seed: Option<u64>,
        reactors: usize,
    ) -> anyhow::Result<impl Fn() -> Result<Box<dyn Transport>, OpenError> + Clone + Send + 'static>
    {
        let open = self.transport.opener(reactors)?;
        let injection = Injection {
            socket_failures: self.inject_socket_failures,
            ..Injection::default()
        };
        let seeds = seed.map(|first| Arc::new(AtomicU64::new(first)));
        Ok(move || {
            let transport = open()?;
            Ok(match &seeds {
                Some(next) => {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    Box::new(FaultInjector::new(transport, injection, seed))
                }
                None => transport,
            })
        })
    }
}

/// Prints what befell the sessions.
pub(crate) fn print_faults(totals: &Totals, reconnects: u64, seed: Option<u64>) {
    println!(
        "{} interruptions, {reconnects} reconnects, {} messages replayed, {} resets, \
         {} remote resets",
        totals.interruptions, totals.replayed, totals.resets, totals.remote_resets
    );
    if let Some(seed) = seed {
        println!("faults injected with seed {seed}");
    }
}
