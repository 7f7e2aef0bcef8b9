//! Columns whose values are sent as the text of their type's output function.

use headwater_protocol::type_map::{Kind, built_in};

use super::examination::Examination;
use super::finding::Finding;
use super::oids::Oids;
use super::words::{count, some_of};
use crate::error::Result;

/// Each type of a captured column, domains and arrays taken off, with how it was made and the first
/// column that has it. Types that others are made of are looked at one step deep: whoever reads a
/// row type gets an object, whatever its fields are.
fn of_columns(oids: &Oids) -> String {
    format!(
        "WITH RECURSIVE step(relation, attnum, type) AS ( \
           SELECT a.attrelid, a.attnum, a.atttypid FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = ANY ({oids}) AND a.attnum > 0 AND NOT a.attisdropped \
           UNION SELECT step.relation, step.attnum, \
               CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END \
             FROM step JOIN pg_catalog.pg_type t ON t.oid = step.type \
             WHERE t.typtype = 'd' OR t.typcategory = 'A' AND t.typelem <> 0) \
         SELECT step.type, pg_catalog.format('%s.%s.%s (%s)', n.nspname, c.relname, a.attname, \
             pg_catalog.format_type(a.atttypid, a.atttypmod)), \
           t.typtype = 'b' AND t.typcategory <> 'A' AND t.typname <> 'hstore' \
         FROM step JOIN pg_catalog.pg_type t ON t.oid = step.type \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = step.relation AND a.attnum = step.attnum \
         JOIN pg_catalog.pg_class c ON c.oid = step.relation \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         ORDER BY n.nspname, c.relname, a.attnum"
    )
}

pub(super) fn types(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let oids = Oids::of(&exam.catalog()?.tables);
    if oids.is_empty() {
        return Ok(vec![Finding::ok("no table is captured")]);
    }
    let rows = exam.connection()?.query(&of_columns(&oids))?;
    let mut columns = Vec::new();
    for row in 0..rows.len() {
        let goes_by_text = match built_in(rows.parse(row, 0)?) {
            Some(kind) => kind == Kind::Output,
            None => rows.flag(row, 2)?,
        };
        if goes_by_text {
            columns.push(rows.text(row, 1)?.to_owned());
        }
    }
    if columns.is_empty() {
        let found = "every column's type has a form of its own in the records";
        return Ok(vec![Finding::ok(found)]);
    }
    let what = count(columns.len(), "column is", "columns are");
    Ok(vec![Finding::ok(format!(
        "{what} sent as text, as Postgres prints them: {}",
        some_of(&columns)
    ))])
}
