//! What a level of compatibility promises of readers, held where the registry looks at stored types
//! alone ([`super::misread`]).
//!
//! # Which schemas are compared
//!
//! Those that the level speaks of (Confluent's protocol, "Compatibility Types"): under BACKWARD a
//! reader with the new schema reads what was written with the subject's newest, under FORWARD one
//! with the newest reads what is written with the new, under FULL both; those whose names end in
//! `_TRANSITIVE` say it of every version. NONE promises nothing, and nothing is asked. Where the
//! level may not be read, or has a name that nobody knows, it is taken for FULL: to refuse what a
//! level would have allowed is told and mended, values that are misread are neither.
//!
//! A schema that the subject has already is never compared, whichever came behind it: it was found
//! by its id before. Between this look and the registering somebody else may register a schema; so
//! they may between the registry's own two.

use super::misread::{Misread, misread};
use super::{Registered, Registry, allowed};
use crate::error::Result;

/// A promise that a schema would break.
pub(super) struct Broken {
    /// The level; none where it may not be read.
    pub(super) level: Option<String>,
    /// The version that the schema does not go with.
    pub(super) version: Registered,
    /// What who would misread, a line each.
    pub(super) misread: Vec<String>,
}

/// What a level is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Promise {
    new_reads_old: bool,
    old_reads_new: bool,
    /// Of every version, and not of the newest alone.
    is_transitive: bool,
}

impl Promise {
    /// None where nothing is promised.
    fn of(level: Option<&str>) -> Option<Self> {
        let level = level.unwrap_or("FULL");
        let (level, is_transitive) = match level.strip_suffix("_TRANSITIVE") {
            Some(level) => (level, true),
            None => (level, false),
        };
        (level != "NONE").then_some(Promise {
            new_reads_old: level != "FORWARD",
            old_reads_new: level != "BACKWARD",
            is_transitive,
        })
    }

    /// What would be misread between a version and the new schema.
    fn misread(self, version: &Registered, schema: &str) -> Vec<String> {
        let number = version.version;
        let by_new = |it: Misread| {
            format!(
                "field {}: {} of version {number} is read as {} by the new schema",
                it.field, it.written, it.read
            )
        };
        let by_old = |it: Misread| {
            format!(
                "field {}: {} is read as {} by version {number}",
                it.field, it.written, it.read
            )
        };
        let mut lines = Vec::new();
        if self.new_reads_old {
            lines.extend(compared(&version.schema, schema).map(by_new));
        }
        if self.old_reads_new {
            lines.extend(compared(schema, &version.schema).map(by_old));
        }
        lines
    }
}

fn compared(writer: &str, reader: &str) -> impl Iterator<Item = Misread> {
    let found = misread(writer, reader).unwrap_or_else(|| {
        tracing::warn!("a schema is too deep to be compared: the registry alone decides");
        Vec::new()
    });
    found.into_iter()
}

/// What the level of a subject promises and a new schema, which the registry takes, would break.
///
/// # Errors
/// The registry does not answer, or not this.
pub(super) fn broken(
    registry: &Registry,
    subject: &str,
    newest: Registered,
    schema: &str,
) -> Result<Option<Broken>> {
    let level = allowed(registry.taking_level(subject))?.flatten();
    let Some(promise) = Promise::of(level.as_deref()) else {
        return Ok(None);
    };
    let of = |version: Registered| {
        let misread = promise.misread(&version, schema);
        (!misread.is_empty()).then(|| Broken {
            level: level.clone(),
            version,
            misread,
        })
    };
    let newest_version = newest.version;
    if let Some(broken) = of(newest) {
        return Ok(Some(broken));
    }
    if !promise.is_transitive {
        return Ok(None);
    }
    for number in registry.versions(subject)?.into_iter().rev() {
        if number == newest_version {
            continue;
        }
        // One that is gone by now holds no reader.
        if let Some(version) = registry.version(subject, number)?
            && let Some(broken) = of(version)
        {
            return Ok(Some(broken));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_about_new_readers_old_readers_or_both_of_one_version_or_all() {
        let said = |level: Option<&str>| {
            Promise::of(level).map(|it| (it.new_reads_old, it.old_reads_new, it.is_transitive))
        };
        for (level, expected) in [
            ("BACKWARD", (true, false, false)),
            ("FORWARD", (false, true, false)),
            ("FULL", (true, true, false)),
            ("BACKWARD_TRANSITIVE", (true, false, true)),
            ("FORWARD_TRANSITIVE", (false, true, true)),
            ("FULL_TRANSITIVE", (true, true, true)),
            ("SOMETHING_NEW", (true, true, false)),
        ] {
            assert_eq!(said(Some(level)), Some(expected), "{level}");
        }
        assert_eq!(said(Some("NONE")), None);
        assert_eq!(said(None), Some((true, true, false)));
    }
}
