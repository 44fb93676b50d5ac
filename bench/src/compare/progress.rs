//! [`Progress`]: what goes on, on standard error.

use std::cell::Cell;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::case::Case;

/// A bar on a terminal, a line for each round elsewhere. Draws only between turns, so that nobody
/// measures it.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    rounds: usize,
    round: Cell<Option<usize>>,
}

impl Progress {
    pub(super) fn new(rounds: usize, turns: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {eta} left  {msg}");
        let bar = ProgressBar::with_draw_target(
            Some((rounds * turns) as u64),
            ProgressDrawTarget::stderr(),
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar,
            rounds,
            round: Cell::new(None),
        }
    }

    /// A turn begins.
    pub(super) fn turn(&self, round: usize, contender: &str, case: Case) {
        if self.bar.is_hidden() {
            if self.round.replace(Some(round)) != Some(round) {
                eprintln!("round {} of {}", round + 1, self.rounds);
            }
        } else {
            self.bar.set_message(format!("{contender}: {case}"));
            self.bar.inc(1);
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
