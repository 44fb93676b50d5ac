//! The results as a table for people, up to 100 columns wide.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::results::{Results, Spread};
use crate::transports::Fact;

const WIDTH: u16 = 100;

/// The table: for each case and contender the median figure, and its ratio to the control.
pub(super) fn table(results: &Results) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let ratio_to = format!("ratio to {} (min..max)", results.contenders[0]);
    table.set_header(["", "", "median", "", &ratio_to]);
    for case in &results.cases {
        for (at, (name, summary)) in results.contenders.iter().zip(&case.contenders).enumerate() {
            let is_control = at == 0;
            table.add_row([
                Cell::new(if is_control { &case.name } else { "" }),
                Cell::new(name),
                Cell::new(three_digits(summary.median)).set_alignment(CellAlignment::Right),
                Cell::new(case.unit),
                Cell::new(if is_control {
                    String::new()
                } else {
                    ratio(summary.ratio)
                }),
            ]);
        }
    }
    table.trim_fmt()
}

/// What the reader must know: what a ratio is, which way is better, and what the control is.
pub(super) fn legend(results: &Results, rounds: usize) -> String {
    let control = &results.contenders[0];
    wrap(&format!(
        "ratio: to {control} in the same round, the median and the extremes of {rounds} rounds. \
         Below 1 is better for round trips (p50), above 1 is better for rate and bulk. {control} \
         is a hand-written loop over one socket, without framing and checksums, which waits in \
         the same way; all others carry msgr2, with checksums (no-data-crc: of \
         preambles only) or, where it says secure, encrypted."
    ))
}

/// Why something is not in the table, and what it stands on.
pub(super) fn absence(name: &str, reason: &str, host: &[Fact]) -> String {
    let mut text = format!("not compared: {name}: {reason}");
    let lacking = host.iter().filter(|fact| fact.remedy.is_some());
    let lacking: Vec<_> = lacking
        .map(|fact| format!("{} ({})", fact.needs, fact.found))
        .collect();
    if !lacking.is_empty() {
        text = format!("{text}; this host has not enough {}", lacking.join(", "));
    }
    wrap(&text)
}

/// Breaks a paragraph into lines; all but the first are indented.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > usize::from(WIDTH) {
            wrapped.push_str("\n ");
            column = 1;
        }
        if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += word.len();
    }
    wrapped
}

fn ratio(Spread { median, min, max }: Spread) -> String {
    format!("{median:.2} ({min:.2}..{max:.2})")
}

/// Three digits that mean something.
fn three_digits(figure: f64) -> String {
    let decimals = match figure {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{figure:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::super::case::CASES;
    use super::*;
    use crate::transports::findings;

    #[test]
    fn nothing_is_wider_than_a_page() {
        let names = ["raw TCP", "posix", "posix secure"]
            .map(String::from)
            .into();
        let rounds = |scale: f64| vec![1.0 * scale, 1234.0 * scale];
        let figures = CASES.map(|_| vec![rounds(1.0), rounds(0.2), rounds(5.1)]);
        let results = Results::new(names, &CASES, figures.into());
        let mut text = table(&results) + "\n" + &legend(&results, 2);
        for finding in findings() {
            let reason = "this version of msgr does not have it";
            text = text + "\n" + &absence(finding.name, reason, &finding.host);
        }
        for line in text.lines() {
            assert!(line.chars().count() <= usize::from(WIDTH), "{line}");
        }
        assert!(text.contains("0.20 (0.20..0.20)"), "{text}");
        assert!(text.contains("618"), "three digits of 617.5: {text}");
    }

    #[test]
    fn figures_have_three_digits() {
        let figures = [0.123, 1.234, 12.34, 123.4, 1234.5].map(three_digits);
        assert_eq!(figures, ["0.12", "1.23", "12.3", "123", "1234"]);
    }
}
