//! What somebody may have meant.

/// From here on clap finds two names alike; a typo in a key is judged as one on the command line.
const ALIKE: f64 = 0.7;

/// The one of `names` that is most like `name`, if any is.
pub(super) fn suggestion<'a>(
    name: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    names
        .into_iter()
        .map(|candidate| (strsim::jaro(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}
