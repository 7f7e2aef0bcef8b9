//! Logical messages by which the parts of Headwater talk to each other through the WAL.
//!
//! A prefix that begins with `headwater.` is Headwater's own. In `frames` the plugin sends
//! such a message whatever `operations` says: it is no change of the database that somebody
//! could do without, but a place in the stream, and the reader waits for it. A client never
//! makes a record of it, whether or not this release knows what it says.

/// What every reserved prefix begins with.
const RESERVED: &str = "headwater.";

/// Asks a running stream to copy tables or rows again.
pub const SNAPSHOT: &str = "headwater.snapshot";

/// Stands behind the rows that were read for such a copy.
pub const WATERMARK: &str = "headwater.watermark";

/// Whether messages of this prefix are Headwater's own.
pub fn is_reserved(prefix: &str) -> bool {
    prefix.starts_with(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_and_the_dot_together_are_reserved() {
        for (prefix, reserved) in [
            (SNAPSHOT, true),
            (WATERMARK, true),
            ("headwater.of-a-later-release", true),
            ("headwater", false),
            ("headwaters.edge", false),
            ("my.headwater.snapshot", false),
        ] {
            assert_eq!(is_reserved(prefix), reserved, "{prefix}");
        }
    }
}
