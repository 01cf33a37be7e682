//! Medians, spreads and ratios. Pure.

use serde::Serialize;

/// The middle and the ends of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without figures, or when one is no number.
    pub fn of(figures: &[f64]) -> Option<Self> {
        if figures.is_empty() || figures.iter().any(|figure| !figure.is_finite()) {
            return None;
        }
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min: sorted[0], max: sorted[sorted.len() - 1] })
    }
}

/// Figure by figure of the same round: `ours / theirs`. A round in which one of the two is missing, or theirs is 0, has
/// no ratio.
pub fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    let both = ours.iter().zip(theirs).filter_map(|(ours, theirs)| (*ours).zip(*theirs));
    both.filter(|(_, theirs)| *theirs != 0.0).map(|(ours, theirs)| ours / theirs).collect()
}

/// The spread of the figures that there are.
pub fn spread(figures: &[Option<f64>]) -> Option<Spread> {
    Spread::of(&figures.iter().flatten().copied().collect::<Vec<_>>())
}

/// The median of the ratios round by round.
pub fn median_ratio(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<f64> {
    Spread::of(&ratios(ours, theirs)).map(|spread| spread.median)
}

/// The name with the largest median; `None` when there is no figure at all.
pub fn best<'a>(columns: impl IntoIterator<Item = (&'a str, Vec<Option<f64>>)>) -> Option<&'a str> {
    let medians = columns.into_iter().filter_map(|(name, column)| Some((name, spread(&column)?.median)));
    medians.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        let median = |figures: &[f64]| Spread::of(figures).map(|spread| spread.median);
        assert_eq!(median(&[5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of(&[2.0, 9.0, 4.0]), Some(Spread { median: 4.0, min: 2.0, max: 9.0 }));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let ours = [Some(2.0), None, Some(9.0), Some(1.0), Some(4.0)];
        let theirs = [Some(1.0), Some(5.0), Some(3.0), Some(0.0), None];
        assert_eq!(ratios(&ours, &theirs), [2.0, 3.0]);
        assert_eq!(median_ratio(&ours, &theirs), Some(2.5));
        assert_eq!(median_ratio(&ours, &[]), None);
    }

    /// A slow round slows both, so the median of ratios is not the ratio of medians.
    #[test]
    fn the_median_of_ratios_is_taken_round_by_round() {
        let ours = [Some(10.0), Some(40.0), Some(30.0)];
        let theirs = [Some(10.0), Some(20.0), Some(30.0)];
        assert_eq!(median_ratio(&ours, &theirs), Some(1.0));
        assert_eq!(spread(&ours).unwrap().median / spread(&theirs).unwrap().median, 1.5);
    }

    #[test]
    fn the_best_has_the_largest_median() {
        let columns = [("a", vec![Some(1.0), Some(9.0), Some(2.0)]), ("b", vec![Some(3.0)]), ("c", vec![None])];
        assert_eq!(best(columns), Some("b"));
        assert_eq!(best([("c", vec![None])]), None);
    }
}
