//! Which tables a run copies, in which order.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::snapshot_request::{RowsOf, Scope};
use crate::source::catalog::{Catalog, Table, TableName};
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;

/// The tables that rows are sent as, by name, each with those that hold the rows, by name.
pub(super) struct Plan {
    tables: BTreeMap<RowsOf, BTreeMap<RowsOf, Table>>,
}

impl Plan {
    /// The tables of `scope` that the stream captures and that have a key.
    pub(super) fn read(connection: &Connection, plugin: &Plugin, scope: &Scope) -> Result<Self> {
        let catalog = Catalog::read(connection, plugin)?;
        let mut tables: BTreeMap<RowsOf, BTreeMap<RowsOf, Table>> = BTreeMap::new();
        let covers = |name: &TableName| scope.covers(&name.schema, &name.table);
        for empty in catalog.without_partitions() {
            if covers(empty) {
                tables.entry(RowsOf::from(empty)).or_default();
            }
        }
        for table in catalog.tables {
            if table.is_keyed && covers(&table.sent_as) {
                let leaf = RowsOf {
                    schema: table.schema.clone(),
                    name: table.name.clone(),
                };
                let leaves = tables.entry(RowsOf::from(&table.sent_as)).or_default();
                leaves.insert(leaf, table);
            }
        }
        Ok(Plan { tables })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(super) fn has(&self, table: &RowsOf) -> bool {
        self.tables.contains_key(table)
    }

    /// The table behind this one, the first without one.
    pub(super) fn next_table(&self, behind: Option<&RowsOf>) -> Option<&RowsOf> {
        let mut names = self.tables.keys();
        names.find(|name| behind.is_none_or(|behind| *name > behind))
    }

    pub(super) fn leaf(&self, table: &RowsOf, leaf: &RowsOf) -> Option<&Table> {
        self.tables.get(table)?.get(leaf)
    }

    /// The leaf behind this one, the first without one.
    pub(super) fn next_leaf(&self, table: &RowsOf, behind: Option<&RowsOf>) -> Option<&RowsOf> {
        let mut names = self.tables.get(table)?.keys();
        names.find(|name| behind.is_none_or(|behind| *name > behind))
    }
}

impl From<&TableName> for RowsOf {
    fn from(name: &TableName) -> Self {
        RowsOf {
            schema: name.schema.clone(),
            name: name.table.clone(),
        }
    }
}
