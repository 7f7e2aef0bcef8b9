//! The tables that are captured: permanent ordinary tables and the leaves of
//! partitioned ones, chosen by the same patterns and the same code as in the plugin.
//!
//! What is copied and streamed is always a leaf. Under `--partitions root` its rows are
//! sent as those of the partitioned table at the top, whose name the patterns are about and
//! whose key they have.
//!
//! What the server's settings do not let be sent is no part of it, by the same code too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use headwater_protocol::frame::ReplicaIdentity;
use headwater_protocol::limits::{self, Limits};
use headwater_protocol::options::Partitions;
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
    /// The table that its rows are sent as.
    pub sent_as: TableName,
    /// The partitioned tables that the way its rows are sent depends on, the one at the top
    /// first.
    pub ancestors: Vec<TableName>,
    /// Whether its rows have a key.
    pub is_keyed: bool,
    /// Whether its replica identity brings the whole key of a row that is updated or deleted.
    pub old_rows_have_key: bool,
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

    /// The qualified name as people write it, without quotes.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// A table's name in its schema, both unquoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// The qualified name, quoted as SQL.
    pub fn sql(&self) -> String {
        sql::qualified(&self.schema, &self.table)
    }

    /// The qualified name as people write it, without quotes.
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// What the catalog holds for the patterns.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The captured tables, by schema and name.
    pub tables: Vec<Table>,
    /// Relations that a pattern matches and that have no WAL to decode, with what they are.
    left_out: Vec<(TableName, &'static str)>,
    /// Partitioned tables that are captured, also those that have no partition yet.
    partitioned: Vec<TableName>,
    /// Tables that a pattern can name in vain, with what to do about it.
    misnamed: Vec<(TableName, String)>,
    /// Tables that would be captured and that the server does not send, by the setting that says
    /// so.
    withheld: BTreeMap<TableName, &'static str>,
}

/// The limits of the server as they are for this session, and for any other of its role.
const LIMITS: &str = "SELECT COALESCE(pg_catalog.current_setting('headwater.tables', true), ''), \
       COALESCE(pg_catalog.current_setting('headwater.exclude_columns', true), '')";

fn server_limits(connection: &Connection) -> Result<Limits, SqlError> {
    let rows = connection.query(LIMITS)?;
    // What does not parse is refused by the server, wherever it would matter, and with the reason.
    Ok(Limits::parse(rows.text(0, 0)?, rows.text(0, 1)?).unwrap_or_default())
}

/// The setting that keeps a table from being sent. `names` are all that it has: its own, and
/// those of the partitioned tables above.
fn withholding<'a>(
    limits: &Limits,
    sent_as: &TableName,
    mut names: impl Iterator<Item = &'a TableName>,
) -> Option<&'static str> {
    if !limits.names(&sent_as.schema, &sent_as.table) {
        return Some(limits::TABLES);
    }
    names
        .any(|name| limits.hides(&name.schema, &name.table))
        .then_some(limits::EXCLUDE_COLUMNS)
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

/// Each partition and the partitioned tables above it, the one at the top first, and whether
/// the partition's replica identity lacks columns of that one's key. From `pg_inherits` and
/// not by the server's function of that purpose, so that it is of the same snapshot.
const ANCESTORS: &str = "WITH RECURSIVE up(leaf, ancestor, height) AS ( \
       SELECT i.inhrelid, i.inhparent, 1 FROM pg_catalog.pg_inherits i \
         JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
         WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND NOT i.inhdetachpending \
       UNION ALL SELECT up.leaf, i.inhparent, up.height + 1 \
         FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.ancestor \
         JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
         WHERE c.relispartition AND NOT i.inhdetachpending), \
     key(relation, name) AS (SELECT c.oid, a.attname \
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indrelid = c.oid \
         AND i.indisvalid AND i.indimmediate AND CASE c.relreplident \
           WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END \
       CROSS JOIN LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) \
       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
       WHERE k.position <= i.indnkeyatts) \
     SELECT up.leaf, up.ancestor, c.relreplident <> 'f' AND EXISTS ( \
       SELECT name FROM key WHERE relation = up.ancestor EXCEPT \
       SELECT name FROM key WHERE relation = up.leaf) \
     FROM up JOIN pg_catalog.pg_class c ON c.oid = up.leaf ORDER BY up.leaf, up.height DESC";

/// The partitioned tables above a partition.
#[derive(Default)]
struct Ancestry {
    /// The OIDs, the table at the top first.
    ancestors: Vec<u32>,
    lacks_key: bool,
}

fn ancestries(connection: &Connection) -> Result<HashMap<u32, Ancestry>, SqlError> {
    let rows = connection.query(ANCESTORS)?;
    let mut ancestries: HashMap<u32, Ancestry> = HashMap::new();
    for row in 0..rows.len() {
        let ancestry = ancestries.entry(rows.parse(row, 0)?).or_default();
        if ancestry.ancestors.is_empty() {
            ancestry.lacks_key = rows.flag(row, 2)?;
        }
        ancestry.ancestors.push(rows.parse(row, 1)?);
    }
    Ok(ancestries)
}

/// How many of the tables that are not sent a warning spells out: a limit may leave one of
/// thousands.
const NAMED: usize = 10;

/// What the setting says of a table that is not sent.
fn verdict(setting: &str) -> &'static str {
    if setting == limits::TABLES {
        "does not name"
    } else {
        "has all columns of"
    }
}

/// A relation that others may be partitions of.
struct Head {
    name: TableName,
    is_keyed: bool,
}

impl Catalog {
    /// Reads the catalog as the session sees it now.
    pub fn read(connection: &Connection, plugin: &Plugin) -> Result<Self, SqlError> {
        let rows = connection.query(RELATIONS)?;
        let ancestries = ancestries(connection)?;
        let limits = server_limits(connection)?;
        let mut heads: HashMap<u32, Head> = HashMap::new();
        for row in 0..rows.len() {
            let head = Head {
                name: TableName {
                    schema: rows.text(row, 1)?.to_owned(),
                    table: rows.text(row, 2)?.to_owned(),
                },
                is_keyed: rows.flag(row, 8)?,
            };
            heads.insert(rows.parse(row, 0)?, head);
        }
        let by_root = plugin.options().partitions == Partitions::Root;
        let mut catalog = Catalog::default();
        for row in 0..rows.len() {
            let oid = rows.parse(row, 0)?;
            let ancestry = ancestries.get(&oid);
            let above = ancestry.map_or(&[][..], |ancestry| &ancestry.ancestors);
            // One that came between the two queries is seen by the next pair of them.
            let mut above: Vec<&Head> = above.iter().filter_map(|oid| heads.get(oid)).collect();
            let Some(own) = heads.get(&oid) else {
                continue;
            };
            let names: Vec<&TableName> = above.iter().map(|head| &head.name).collect();
            let names = names.into_iter().chain([&own.name]);
            let ancestry = ancestry.filter(|_| by_root);
            if !by_root {
                above.clear();
            }
            let head = above.first().copied().unwrap_or(own);
            catalog.note_misnamed(&own.name, &head.name, rows.text(row, 3)?, by_root);
            if !plugin.selects(&head.name.schema, &head.name.table) {
                continue;
            }
            if let Some(setting) = withholding(&limits, &head.name, names) {
                // A partition alone may be hidden: the others are sent under their table's name.
                let is_whole =
                    setting == limits::TABLES || limits.hides(&head.name.schema, &head.name.table);
                let name = if is_whole { &head.name } else { &own.name };
                catalog.withheld.insert(name.clone(), setting);
                continue;
            }
            match (rows.text(row, 3)?, rows.text(row, 4)?) {
                ("r", "p") => catalog.tables.push(Table {
                    sent_as: head.name.clone(),
                    ancestors: above.iter().map(|head| head.name.clone()).collect(),
                    is_keyed: head.is_keyed,
                    old_rows_have_key: !ancestry.is_some_and(|ancestry| ancestry.lacks_key),
                    ..table(&rows, row)?
                }),
                ("r", _) => catalog.left_out.push((own.name.clone(), "unlogged")),
                ("f", _) => catalog.left_out.push((own.name.clone(), "foreign")),
                _ if by_root => catalog.partitioned.push(head.name.clone()),
                _ => {}
            }
        }
        Ok(catalog)
    }

    /// Partitioned tables that are captured and have no partition to copy.
    pub fn without_partitions(&self) -> BTreeSet<&TableName> {
        let copied: BTreeSet<&TableName> = self.tables.iter().map(|table| &table.sent_as).collect();
        let names = self.partitioned.iter();
        names.filter(|name| !copied.contains(name)).collect()
    }

    fn note_misnamed(&mut self, own: &TableName, head: &TableName, kind: &str, by_root: bool) {
        let advice = if own != head {
            format!(
                "{} is a partition of {}: name that table, or choose --partitions leaf.",
                own.display(),
                head.display()
            )
        } else if kind == "p" && !by_root {
            format!(
                "{} is partitioned: match its partitions, or choose --partitions root.",
                own.display()
            )
        } else {
            return;
        };
        self.misnamed.push((own.clone(), advice));
    }

    /// Refuses a pattern that captures nothing, and names in a warning what a pattern
    /// matches but has no changes to decode, and what the server does not send.
    pub fn check_patterns(&self, included: Option<&TablePatterns>) -> Result<()> {
        for (name, what) in &self.left_out {
            let table = name.display();
            tracing::warn!(%table, "{what} table is left out: its changes are not in the WAL");
        }
        self.note_withheld();
        self.check_matches(included)
    }

    /// Refuses a pattern that captures nothing.
    pub fn check_matches(&self, included: Option<&TablePatterns>) -> Result<()> {
        for pattern in included.into_iter().flatten() {
            let matches = |name: &TableName| pattern.matches(&name.schema, &name.table);
            if self.tables.iter().any(|table| matches(&table.sent_as))
                || self.partitioned.iter().any(matches)
            {
                continue;
            }
            if let Some((name, setting)) = self.withheld.iter().find(|(name, _)| matches(name)) {
                return Err(Error::failed(format!(
                    "table {} is not sent: the server's setting {setting} {} it",
                    name.display(),
                    verdict(setting)
                ))
                .with_hint(
                    "What the server sends is for a superuser to say, with ALTER DATABASE … SET or in \
                     postgresql.conf.",
                ));
            }
            let error = Error::failed(format!("no table matches pattern {pattern}"));
            let misnamed = self.misnamed.iter().find(|(name, _)| matches(name));
            return Err(match misnamed {
                Some((_, advice)) => error.with_hint(advice.as_str()),
                None => error.with_hint(
                    "A pattern is schema.table, public where it names no schema, with * as wildcard.",
                ),
            });
        }
        Ok(())
    }

    /// Relations that a pattern matches and that have no WAL to decode, with what they are.
    pub fn left_out(&self) -> &[(TableName, &'static str)] {
        &self.left_out
    }

    /// Tables that would be captured and that the server does not send, with the setting that says
    /// so.
    pub fn withheld(&self) -> impl Iterator<Item = (&TableName, &'static str)> {
        self.withheld.iter().map(|(name, setting)| (name, *setting))
    }

    /// The captured tables that have no key, by name.
    pub fn unkeyed_tables(&self) -> Vec<&TableName> {
        let unkeyed = self.tables.iter().filter(|table| !table.is_keyed);
        let unkeyed: BTreeSet<&TableName> = unkeyed.map(|table| &table.sent_as).collect();
        unkeyed.into_iter().collect()
    }

    /// Partitions whose updates and deletes will be quarantined: their replica identity does not
    /// bring the key.
    pub fn lacking_identity(&self) -> Vec<&Table> {
        let tables = self.tables.iter();
        tables
            .filter(|table| table.is_keyed && !table.old_rows_have_key)
            .collect()
    }

    /// The captured tables whose updates can leave large values out of the WAL.
    pub fn unchangeable(&self) -> Vec<&Table> {
        let tables = self.tables.iter();
        tables.filter(|table| table.can_leave_unchanged).collect()
    }

    fn note_withheld(&self) {
        for setting in [limits::TABLES, limits::EXCLUDE_COLUMNS] {
            let withheld = self.withheld.iter().filter(|(_, by)| **by == setting);
            let names: Vec<String> = withheld.map(|(name, _)| name.display()).collect();
            if names.is_empty() {
                continue;
            }
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = names[..names.len().min(NAMED)].join(", ");
            tracing::warn!(
                "the server does not send what its setting {setting} {}: {named}{more}",
                verdict(setting)
            );
        }
    }

    /// The captured tables that have no key, in words; empty if all have one.
    pub fn unkeyed(&self) -> String {
        list(&self.unkeyed_tables(), ", ", |name| name.display())
    }

    /// Applies `--unkeyed`.
    pub fn check_keys(&self, mode: UnkeyedMode) -> Result<()> {
        let unkeyed = self.unkeyed_tables();
        let names = list(&unkeyed, ", ", |name| name.display());
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
                list(&unkeyed, " ", |name| format!(
                    "ALTER TABLE {} ADD PRIMARY KEY (…)",
                    name.sql()
                ))
            ))),
        }
    }

    /// Names partitions whose updates and deletes will be quarantined.
    pub fn check_identities(&self) {
        let lacking = self.lacking_identity();
        if !lacking.is_empty() {
            tracing::warn!(
                partitions = %names(&lacking),
                cure = %statements(&lacking, "REPLICA IDENTITY FULL;"),
                "the replica identity of partitions lacks columns of their table's key: the \
                 stream will stop at the first update or delete of one"
            );
        }
    }

    /// Applies `--toast require-full`.
    pub fn check_toast(&self, mode: ToastMode) -> Result<()> {
        let tables = self.unchangeable();
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
        sent_as: TableName {
            schema: rows.text(row, 1)?.to_owned(),
            table: rows.text(row, 2)?.to_owned(),
        },
        ancestors: Vec::new(),
        is_keyed: rows.flag(row, 8)?,
        old_rows_have_key: true,
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

fn list<T>(tables: &[&T], separator: &str, item: impl Fn(&T) -> String) -> String {
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
