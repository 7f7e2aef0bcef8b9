//! The tables that are captured: permanent ordinary tables and the leaves of
//! partitioned ones, chosen by the same patterns and the same code as in the plugin.

use headwater_protocol::frame::ReplicaIdentity;
use headwater_protocol::table_pattern::TablePatterns;

use super::connection::{Connection, Rows};
use super::plugin::Plugin;
use super::sql;
use super::sql_error::SqlError;
use crate::cli::{ToastMode, UnkeyedMode};
use crate::error::{Error, Result};

/// A table that is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`
    pub oid: u32,
    /// The schema's name, unquoted.
    pub schema: String,
    /// The table's name, unquoted.
    pub name: String,
    /// Whether its rows have a key.
    pub is_keyed: bool,
    /// Whether an update can leave a value where it is, out of the WAL.
    pub can_leave_unchanged: bool,
    /// Its size in pages.
    pub pages: u64,
    /// How many rows the last ANALYZE or VACUUM leads to expect; none without one.
    pub estimated_rows: Option<u64>,
}

impl Table {
    /// The qualified name, quoted as SQL.
    pub fn sql_name(&self) -> String {
        sql::qualified(&self.schema, &self.name)
    }

    fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// What the catalog holds for the patterns.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The captured tables, by schema and name.
    pub tables: Vec<Table>,
    /// Relations that a pattern matches and that have no WAL to decode, with what they are.
    left_out: Vec<(String, &'static str)>,
    /// Partitioned tables: a pattern of a root's name alone captures nothing.
    partitioned: Vec<(String, String)>,
}

/// The size is the file's, not `relpages`, which may be stale; rows are estimated as
/// the planner does, by the density that was seen last. The key is decided as the
/// plugin decides it.
const RELATIONS: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, \
       CASE c.relkind WHEN 'r' THEN pg_catalog.pg_relation_size(c.oid) \
         / pg_catalog.current_setting('block_size')::int8 ELSE 0 END AS pages, \
       CASE WHEN c.reltuples >= 0 AND c.relpages > 0 THEN (c.reltuples / c.relpages)::float8 END, \
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid \
         AND i.indimmediate AND CASE c.relreplident WHEN 'i' THEN i.indisreplident \
           WHEN 'n' THEN false ELSE i.indisprimary END), \
       EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
         AND NOT a.attisdropped AND a.attlen = -1 AND a.attstorage <> 'p') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND c.relrewrite = 0 \
     ORDER BY n.nspname, c.relname";

impl Catalog {
    /// Reads the catalog as the session sees it now.
    pub fn read(connection: &Connection, plugin: &Plugin) -> Result<Self, SqlError> {
        let rows = connection.query(RELATIONS)?;
        let mut catalog = Catalog::default();
        for row in 0..rows.len() {
            let (schema, name) = (rows.text(row, 1)?, rows.text(row, 2)?);
            if !plugin.selects(schema, name) {
                continue;
            }
            match (rows.text(row, 3)?, rows.text(row, 4)?) {
                ("r", "p") => catalog.tables.push(table(&rows, row)?),
                ("r", _) => catalog
                    .left_out
                    .push((format!("{schema}.{name}"), "unlogged")),
                ("f", _) => catalog
                    .left_out
                    .push((format!("{schema}.{name}"), "foreign")),
                _ => catalog
                    .partitioned
                    .push((schema.to_owned(), name.to_owned())),
            }
        }
        Ok(catalog)
    }

    /// Refuses a pattern that captures nothing, and names in a warning what a pattern
    /// matches but has no changes to decode.
    pub fn check_patterns(&self, included: Option<&TablePatterns>) -> Result<()> {
        for (name, what) in &self.left_out {
            tracing::warn!(table = %name, "{what} table is left out: its changes are not in the WAL");
        }
        for pattern in included.into_iter().flatten() {
            if self
                .tables
                .iter()
                .any(|table| pattern.matches(&table.schema, &table.name))
            {
                continue;
            }
            let error = Error::failed(format!("no table matches pattern {pattern}"));
            let root = self
                .partitioned
                .iter()
                .find(|(schema, name)| pattern.matches(schema, name));
            return Err(match root {
                Some((schema, name)) => error.with_hint(format!(
                    "{schema}.{name} is partitioned: match its partitions too, as in -t '{pattern}*'."
                )),
                None => error.with_hint(
                    "A pattern is schema.table, public where it names no schema, with * as wildcard.",
                ),
            });
        }
        Ok(())
    }

    /// Applies `--unkeyed`.
    pub fn check_keys(&self, mode: UnkeyedMode) -> Result<()> {
        let unkeyed: Vec<&Table> = self.tables.iter().filter(|table| !table.is_keyed).collect();
        let names = names(&unkeyed);
        match mode {
            _ if unkeyed.is_empty() => Ok(()),
            UnkeyedMode::Send => Ok(()),
            UnkeyedMode::Skip => {
                tracing::warn!(tables = %names, "tables without a key are left out");
                Ok(())
            }
            UnkeyedMode::Refuse => Err(Error::failed(format!(
                "tables without a primary key or a replica identity index: {names}"
            ))
            .with_hint(format!(
                "Add a key ({}), or leave them out with --exclude-table or --unkeyed skip, or send \
                 their rows without a key with --unkeyed send.",
                statements(&unkeyed, "ADD PRIMARY KEY (…)")
            ))),
        }
    }

    /// Applies `--toast require-full`.
    pub fn check_toast(&self, mode: ToastMode) -> Result<()> {
        let tables: Vec<&Table> = self
            .tables
            .iter()
            .filter(|t| t.can_leave_unchanged)
            .collect();
        if mode != ToastMode::RequireFull || tables.is_empty() {
            return Ok(());
        }
        Err(Error::failed(format!(
            "tables whose updates can leave large values out of the WAL: {}",
            names(&tables)
        ))
        .with_hint(format!(
            "Run: {} Or let the client read such rows, with --toast fetch.",
            statements(&tables, "REPLICA IDENTITY FULL;")
        )))
    }
}

fn table(rows: &Rows, row: usize) -> Result<Table, SqlError> {
    let identity = rows
        .text(row, 5)?
        .bytes()
        .next()
        .and_then(ReplicaIdentity::from_code);
    let pages: u64 = rows.parse(row, 6)?;
    let density: Option<f64> = rows.optional(row, 7)?.and_then(|text| text.parse().ok());
    Ok(Table {
        oid: rows.parse(row, 0)?,
        schema: rows.text(row, 1)?.to_owned(),
        name: rows.text(row, 2)?.to_owned(),
        is_keyed: rows.flag(row, 8)?,
        can_leave_unchanged: identity != Some(ReplicaIdentity::Full) && rows.flag(row, 9)?,
        pages,
        estimated_rows: if pages == 0 {
            Some(0)
        } else {
            // An estimate: more rows than 2^53 are not expected.
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss
            )]
            density.map(|density| (density * pages as f64).max(0.0) as u64)
        },
    })
}

/// At most this many tables are spelled out in one message.
const NAMED_TABLES: usize = 20;

fn names(tables: &[&Table]) -> String {
    list(tables, ", ", |table| table.display_name())
}

fn statements(tables: &[&Table], clause: &str) -> String {
    list(tables, " ", |table| {
        format!("ALTER TABLE {} {clause}", table.sql_name())
    })
}

fn list(tables: &[&Table], separator: &str, item: impl Fn(&Table) -> String) -> String {
    let mut items: Vec<String> = tables
        .iter()
        .take(NAMED_TABLES)
        .map(|table| item(table))
        .collect();
    if tables.len() > NAMED_TABLES {
        items.push(format!("and {} more", tables.len() - NAMED_TABLES));
    }
    items.join(separator)
}
