//! What is said of a table once, however many of its changes it is true of.

use std::collections::HashSet;

use headwater_protocol::Lsn;

use super::target::Target;

/// One thing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Notice {
    /// It has no key and is left out.
    Skipped,
    /// It has no key, so that its topic cannot tell which row was deleted.
    Deletes,
}

impl Notice {
    fn text(self) -> &'static str {
        match self {
            Notice::Skipped => {
                "changes of a table without a key are left out, as --unkeyed skip says"
            }
            Notice::Deletes => {
                "rows were deleted from a table without a key: no record of the row envelope can \
                 tell which, so they stay in the topic; --envelope change has deletes as events"
            }
        }
    }
}

/// What was said of which relation.
#[derive(Debug, Default)]
pub(super) struct Notices(HashSet<(u32, Notice)>);

impl Notices {
    /// Warns, unless the same was said of the relation before. `lsn` is the transaction's end.
    pub(super) fn say(&mut self, notice: Notice, relation: u32, target: &Target, lsn: Lsn) {
        if self.0.insert((relation, notice)) {
            tracing::warn!(table = %target.name(), %lsn, "{}", notice.text());
        }
    }
}
