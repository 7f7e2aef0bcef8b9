//! What the server's settings let be sent of a relation: see [`headwater_protocol::limits`].
//!
//! Decided when a plan is compiled, so that it costs nothing a row. A name that cannot be said in
//! UTF-8 might be any, and where anything is limited its table is not sent.

use std::fmt;

use headwater_protocol::limits::{EXCLUDE_COLUMNS, Limits, TABLES};
use headwater_protocol::options::PluginOptions;

use crate::pg::{DatabaseEncoding, RelationRef};

/// What decides a plan besides its relation.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s> {
    pub(crate) options: &'s PluginOptions,
    pub(crate) limits: &'s Limits,
    pub(crate) encoding: DatabaseEncoding,
}

/// Why nothing of a table is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `headwater.tables` does not name it.
    Unnamed,
    /// `headwater.exclude_columns` excludes it as a whole.
    Excluded,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unnamed => write!(f, "the server's setting {TABLES} does not name it"),
            Refusal::Excluded => {
                write!(
                    f,
                    "the server's setting {EXCLUDE_COLUMNS} has all its columns"
                )
            }
        }
    }
}

/// A name in its schema.
type Name = (String, String);

/// What may be sent of a relation.
pub(crate) struct Access<'l> {
    limits: &'l Limits,
    refusal: Option<Refusal>,
    /// Under which columns are looked for that the table has not.
    table: Vec<Name>,
    /// Under which columns are looked for that the table has, and this part of it has not.
    part: Vec<Name>,
}

impl<'l> Access<'l> {
    /// `head` is the table that rows are sent as. `related` are the relation that stores them and
    /// the partitioned tables above, but for `head`; none stands for one that cannot be seen.
    /// They are parts of the table where it is sent for them, and otherwise other names of it.
    pub(crate) fn of(
        head: RelationRef<'_>,
        related: &[Option<RelationRef<'_>>],
        are_parts: bool,
        scope: Scope<'l>,
    ) -> Self {
        let limits = scope.limits;
        let mut access = Access {
            limits,
            refusal: None,
            table: Vec::new(),
            part: Vec::new(),
        };
        if limits.is_none() {
            return access;
        }
        let Some(name) = exact_name(head, scope.encoding) else {
            access.refusal = Some(Refusal::Unnamed);
            return access;
        };
        if !limits.names(&name.0, &name.1) {
            access.refusal = Some(Refusal::Unnamed);
        }
        access.table.push(name);
        if !limits.excludes_columns() {
            return access;
        }
        for relation in related {
            match relation.and_then(|relation| exact_name(relation, scope.encoding)) {
                Some(name) if are_parts => access.part.push(name),
                Some(name) => access.table.push(name),
                None => access.refusal = Some(Refusal::Excluded),
            }
        }
        let mut names = access.table.iter().chain(&access.part);
        if names.any(|(schema, table)| limits.hides(schema, table)) {
            access.refusal = access.refusal.or(Some(Refusal::Excluded));
        }
        access
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Whether the table that is sent has a column.
    pub(crate) fn table_has(&self, column: &str) -> bool {
        self.is_sent(&self.table, column)
    }

    /// Whether this part of it has one that the table has.
    pub(crate) fn part_has(&self, column: &str) -> bool {
        self.is_sent(&self.part, column)
    }

    fn is_sent(&self, names: &[Name], column: &str) -> bool {
        let mut names = names.iter();
        !names.any(|(schema, table)| self.limits.excludes(schema, table, column))
    }
}

fn exact_name(relation: RelationRef<'_>, encoding: DatabaseEncoding) -> Option<Name> {
    relation
        .has_exact_names(encoding)
        .then(|| (relation.schema(encoding), relation.name(encoding)))
}
