//! The captured tables as the checks name them in SQL.

use std::fmt;

use crate::source::catalog::Table;

/// Tables by their OIDs.
pub(super) struct Oids(Vec<u32>);

impl Oids {
    pub(super) fn of(tables: &[Table]) -> Self {
        Oids(tables.iter().map(|table| table.oid).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// As an expression of type `oid[]`.
impl fmt::Display for Oids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let oids: Vec<String> = self.0.iter().map(u32::to_string).collect();
        write!(f, "'{{{}}}'::pg_catalog.oid[]", oids.join(","))
    }
}
