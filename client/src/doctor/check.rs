//! The table of checks: what must hold, and what mends it where it does not.

use super::examination::Examination;
use super::finding::Finding;
use super::{kafka, registry, role, server, start, tables};
use crate::error::Result;

/// A line of the table. The report has a line for each, and `docs/doctor.md` is made of them.
#[derive(Debug)]
pub(super) struct Check {
    /// Its name: lower case, at most [`ID_WIDTH`] letters, never used again for something else.
    pub(super) id: &'static str,
    /// What must hold, as the manual has it.
    pub(super) title: &'static str,
    /// What mends it, as the manual has it.
    pub(super) cure: &'static str,
    /// Looks. One finding, or several of one kind of thing.
    ///
    /// # Errors
    /// It could not look, and why: nothing is known then, which is not the same as well.
    pub(super) look: Look,
}

pub(super) type Look = fn(&mut Examination<'_>) -> Result<Vec<Finding>>;

/// What belongs together, in the order in which it is mended.
#[derive(Debug)]
pub(super) struct Area {
    /// Its name, in the report and in the manual.
    pub(super) name: &'static str,
    /// Its checks. Later ones may need what earlier ones have found.
    pub(super) checks: &'static [Check],
}

/// The longest name, for the report's column.
pub(super) const ID_WIDTH: usize = 18;

/// Everything, in the order of the report.
pub(super) const AREAS: &[Area] = &[
    Area {
        name: "server",
        checks: server::CHECKS,
    },
    Area {
        name: "role",
        checks: role::CHECKS,
    },
    Area {
        name: "tables",
        checks: tables::CHECKS,
    },
    Area {
        name: "kafka",
        checks: kafka::CHECKS,
    },
    Area {
        name: "registry",
        checks: registry::CHECKS,
    },
    Area {
        name: "start",
        checks: start::CHECKS,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_short_and_each_its_own() {
        let mut seen = BTreeSet::new();
        for check in AREAS.iter().flat_map(|area| area.checks) {
            assert!(check.id.len() <= ID_WIDTH, "{} is too long", check.id);
            assert!(seen.insert(check.id), "{} is there twice", check.id);
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(check.id.bytes().all(legal), "{}", check.id);
        }
    }
}
