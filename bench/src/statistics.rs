//! Medians and spreads: a shared machine's figures have outliers, and only these
//! survive them.

use serde::Serialize;

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The lowest.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one measurement.
    ///
    /// # Panics
    ///
    /// Without any.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "a spread of nothing");
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Spread {
            median,
            min: values[0],
            max: values[values.len() - 1],
        }
    }

    /// `median (min–max)` with so many decimals.
    pub(crate) fn show(&self, decimals: usize) -> String {
        format!(
            "{:.decimals$} ({:.decimals$}–{:.decimals$})",
            self.median, self.min, self.max
        )
    }

    /// How `own` compares with `base` in each round, of which both have one measurement.
    pub(crate) fn of_ratios<T>(own: &[T], base: &[T], what: impl Fn(&T) -> f64) -> Self {
        Spread::of(
            own.iter()
                .zip(base)
                .map(|(own, base)| what(own) / what(base)),
        )
    }
}

/// Who is measured when: each of `count` once a round, and each round begins with another
/// one, so that none is always the first. Round and index.
pub(crate) fn in_turn(rounds: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rounds).flat_map(move |round| (0..count).map(move |turn| (round, (turn + round) % count)))
}

/// Whether something of this name was asked for: all is, where no part of a name was given.
pub(crate) fn is_wanted(name: &str, parts: &[String]) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
}
