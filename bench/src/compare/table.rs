//! The results as a table for people, up to 100 columns wide.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::results::{Results, Spread};

const WIDTH: u16 = 100;

/// The table: for each contender the median figure, and its ratio to the control.
pub(super) fn table(results: &Results) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    let mut header = vec![Cell::new("median of the rounds"), Cell::new("")];
    for (at, name) in results.contenders.iter().enumerate() {
        header.push(right(name));
        if at > 0 {
            header.push(Cell::new("ratio (min..max)"));
        }
    }
    table.set_header(header);
    for case in &results.cases {
        let mut row = vec![Cell::new(&case.name), Cell::new(case.unit)];
        for (at, summary) in case.contenders.iter().enumerate() {
            row.push(right(&three_digits(summary.median)));
            if at > 0 {
                row.push(Cell::new(ratio(summary.ratio)));
            }
        }
        table.add_row(row);
    }
    table.trim_fmt()
}

/// What the reader must know: what a ratio is, and which way is better.
pub(super) fn legend(results: &Results, rounds: usize) -> String {
    let control = results.contenders[0];
    let mut legend = format!(
        "ratio: to {control} in the same round, median (min..max) of {rounds} rounds; below 1 is \
         better for\nround trips (us, p50), above 1 is better for rate (k msg/s) and bulk (GB/s). \
         The control is a hand-\nwritten loop over one socket, unframed and without checksums; "
    );
    let _ = write!(legend, "all the others carry msgr2 in crc mode.");
    legend
}

fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
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
