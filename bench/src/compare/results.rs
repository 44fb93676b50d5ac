//! [`Results`]: all figures of a run, and what is made of them.

use serde::Serialize;

use super::case::Case;

/// The figures of a run, by case and contender.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// The first is the control.
    pub(super) contenders: Vec<String>,
    pub(super) cases: Vec<CaseResults>,
}

/// The figures of one case.
#[derive(Debug, Serialize)]
pub(super) struct CaseResults {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) case: Case,
    pub(super) unit: &'static str,
    /// In the contenders' order.
    pub(super) contenders: Vec<Summary>,
}

/// How one contender did in one case.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) name: String,
    /// The median of the rounds.
    pub(super) median: f64,
    /// To the control in the same round.
    pub(super) ratio: Spread,
    pub(super) rounds: Vec<f64>,
    pub(super) ratios: Vec<f64>,
}

/// The middle and the extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Results {
    /// Sums up `figures`, which are indexed by case, contender and round.
    pub(super) fn new(
        contenders: Vec<String>,
        cases: &[Case],
        figures: Vec<Vec<Vec<f64>>>,
    ) -> Self {
        let sum_up = |(case, figures): (&Case, Vec<Vec<f64>>)| CaseResults {
            name: case.to_string(),
            case: *case,
            unit: case.kind.unit(),
            contenders: summaries(&contenders, figures),
        };
        let cases = cases.iter().zip(figures).map(sum_up).collect();
        Self { contenders, cases }
    }
}

fn summaries(contenders: &[String], figures: Vec<Vec<f64>>) -> Vec<Summary> {
    let control = figures.first().cloned().unwrap_or_default();
    let sum_up = |(name, rounds): (&String, Vec<f64>)| {
        let ratios: Vec<_> = rounds
            .iter()
            .zip(&control)
            .map(|(own, raw)| own / raw)
            .collect();
        Summary {
            name: name.clone(),
            median: Spread::of(&rounds).median,
            ratio: Spread::of(&ratios),
            rounds,
            ratios,
        }
    };
    contenders.iter().zip(figures).map(sum_up).collect()
}

impl Spread {
    /// Of no values: not a number.
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.as_slice() {
            [] => f64::NAN,
            odd if odd.len() % 2 == 1 => odd[middle],
            even => f64::midpoint(even[middle - 1], even[middle]),
        };
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        Self {
            median,
            min: end(sorted.first()),
            max: end(sorted.last()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // All of these are exact.
mod tests {
    use super::super::case::CASES;
    use super::*;

    #[test]
    fn the_median_of_odd_and_even_counts() {
        let spread = |median, min, max| Spread { median, min, max };
        assert_eq!(Spread::of(&[3.0]), spread(3.0, 3.0, 3.0));
        assert_eq!(Spread::of(&[9.0, 1.0, 4.0]), spread(4.0, 1.0, 9.0));
        assert_eq!(Spread::of(&[9.0, 1.0, 4.0, 2.0]), spread(3.0, 1.0, 9.0));
        assert!(Spread::of(&[]).median.is_nan());
    }

    #[test]
    fn ratios_are_paired_by_round() {
        // The second contender is always twice as slow, on a host that slows down by ten.
        let figures = vec![vec![vec![1.0, 5.0, 10.0], vec![2.0, 10.0, 20.0]]];
        let results = Results::new(
            ["raw", "other"].map(String::from).into(),
            &CASES[..1],
            figures,
        );
        let [control, other] = results.cases[0].contenders.as_slice() else {
            panic!("two contenders");
        };
        assert_eq!(
            (control.median, control.ratio.min, control.ratio.max),
            (5.0, 1.0, 1.0)
        );
        assert_eq!((other.median, other.ratio.median), (10.0, 2.0));
        assert_eq!((other.ratio.min, other.ratio.max), (2.0, 2.0));
    }
}
