//! Tables without a key, and the least that gives them one.
//!
//! Without reading rows nobody can tell whether columns are unique. So what is offered is what
//! cannot fail: the replica identity that the table has the index for, or a column of its own.

use super::examination::Examination;
use super::finding::{Cure, Finding};
use super::words::some_of;
use crate::cli::UnkeyedMode;
use crate::error::Result;
use crate::source::catalog::TableName;
use crate::source::connection::Connection;
use crate::source::sql;

/// What a table has that could be its key: a primary key that decides at once, a unique index, and
/// whether it takes a column that is one. That is refused to a table whose columns are given by
/// another (a partition, one of a type), to one with a primary key (a `DEFERRABLE` one is no
/// replica identity), and an identity column to one with children.
const CANDIDATES: &str = "SELECT \
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary \
         AND i.indisvalid AND i.indimmediate), \
       (SELECT x.relname FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
         WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate \
           AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT \
             FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
             WHERE k.position <= i.indnkeyatts AND NOT a.attnotnull) \
         ORDER BY i.indnkeyatts, x.relname LIMIT 1), \
       c.relkind = 'r' AND NOT c.relispartition AND c.reloftype = 0 \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid \
           AND i.indisprimary) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid \
           AND a.attname = 'headwater_id') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

pub(super) fn keys(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let catalog = exam.catalog()?;
    let unkeyed = catalog.unkeyed_tables();
    if unkeyed.is_empty() {
        return Ok(vec![Finding::ok("every captured table has a key")]);
    }
    let displayed: Vec<String> = unkeyed.iter().map(|name| name.display()).collect();
    let names = some_of(&displayed);
    let finding = match exam.options.unkeyed {
        UnkeyedMode::Refuse => Finding::fail(format!(
            "no primary key and no replica identity index: {names}"
        )),
        UnkeyedMode::Skip => Finding::warning(format!("without a key, and left out: {names}")),
        UnkeyedMode::Send => Finding::warning(format!(
            "without a key, and sent without one, so that updates and deletes find no record: {names}"
        )),
    };
    let mut statements = Vec::new();
    let mut hopeless = Vec::new();
    for name in &unkeyed {
        match statement(exam.connection()?, name)? {
            Some(statement) => statements.push(statement),
            None => hopeless.push(*name),
        }
    }
    let mut findings = Vec::new();
    if !statements.is_empty() {
        let cure = Cure::sql_in(&facts.database, statements.join("\n"));
        findings.push(finding.clone().cured_by(cure).with_hint(
            "Where columns are unique already, name them instead: ALTER TABLE … ADD PRIMARY KEY (…). \
             A new column locks the table while it is written anew. Or leave such tables out with \
             --unkeyed skip, or send their rows without a key with --unkeyed send.",
        ));
    }
    if !hopeless.is_empty() {
        let option = super::tables::excluded(&hopeless);
        findings.push(finding.cured_by(Cure::option(option)).with_hint(
            "Or give the table a primary key that is not DEFERRABLE: ALTER TABLE … ADD PRIMARY KEY (…). \
             That of a partitioned table has to hold its partition key.",
        ));
    }
    Ok(findings)
}

/// None for a table that has no index that would do and takes no column of its own. A partitioned
/// one: its key has to hold the partition key, which says nothing of what makes a row unique.
fn statement(connection: &Connection, name: &TableName) -> Result<Option<String>> {
    let rows = connection.query(&format!(
        "{CANDIDATES} WHERE n.nspname = {} AND c.relname = {}",
        sql::literal(&name.schema),
        sql::literal(&name.table)
    ))?;
    let table = name.sql();
    if rows.is_empty() {
        return Ok(None);
    }
    let clause = if rows.flag(0, 0)? {
        "REPLICA IDENTITY DEFAULT".to_owned()
    } else if let Some(index) = rows.optional(0, 1)? {
        format!("REPLICA IDENTITY USING INDEX {}", sql::identifier(index))
    } else if rows.flag(0, 2)? {
        "ADD COLUMN headwater_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY".to_owned()
    } else {
        return Ok(None);
    };
    Ok(Some(format!("ALTER TABLE {table}\n  {clause};")))
}
