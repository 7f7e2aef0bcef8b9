//! Finding rows of a relation by their keys, as JSON has them.
//!
//! By the equality of the key's own index, so that a key of any type in any schema is
//! looked up as the index would.

use super::connection::Connection;
use super::plugin::Plugin;
use super::sql;
use super::sql_error::SqlError;

/// The key's columns in the index's order: name, type, the schema and the name of the
/// operator that the index takes for equality.
const KEY_COLUMNS: &str = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
       on_.nspname, o.oprname, n.nspname, c.relname, c.relkind = 'p' \
     FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
       AND CASE c.relreplident WHEN 'i' THEN i.indisreplident \
         WHEN 'n' THEN false ELSE i.indisprimary END \
     CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey), pg_catalog.unnest(i.indclass)) \
       WITH ORDINALITY AS k(attnum, class, position) \
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
     JOIN pg_catalog.pg_opclass oc ON oc.oid = k.class \
     JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3 \
       AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype \
     JOIN pg_catalog.pg_operator o ON o.oid = ao.amopopr \
     JOIN pg_catalog.pg_namespace on_ ON on_.oid = o.oprnamespace \
     WHERE c.oid = $1::oid AND k.position <= i.indnkeyatts ORDER BY k.position";

/// How rows of one relation are found.
pub struct ByKey {
    columns: Vec<String>,
    /// The columns with their types, as SQL.
    fields: String,
    condition: String,
    /// What to read from, as SQL.
    table: String,
}

impl ByKey {
    /// Asks the catalog. None if the relation is gone or has no key.
    pub fn read(connection: &Connection, relation: u32) -> Result<Option<Self>, SqlError> {
        let oid = relation.to_string();
        let rows = connection.query_with(KEY_COLUMNS, &[oid.as_bytes()], libpq::Format::Text)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let (mut columns, mut fields, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows.len() {
            let name = rows.text(row, 0)?;
            let column = sql::identifier(name);
            fields.push(format!("{column} {}", rows.text(row, 1)?));
            conditions.push(format!(
                "t.{column} OPERATOR({}.{}) k.{column}",
                sql::identifier(rows.text(row, 2)?),
                rows.text(row, 3)?
            ));
            columns.push(name.to_owned());
        }
        let table = sql::qualified(rows.text(0, 4)?, rows.text(0, 5)?);
        // A partitioned table is read through: by itself it has no rows. Any other is read
        // without its children, which are tables of their own.
        let only = if rows.flag(0, 6)? { "" } else { "ONLY " };
        Ok(Some(ByKey {
            columns,
            fields: fields.join(", "),
            condition: conditions.join(" AND "),
            table: format!("{only}{table}"),
        }))
    }

    /// Whether the key has these columns, in whatever order.
    pub fn has(&self, columns: &[String]) -> bool {
        self.columns.len() == columns.len()
            && columns.iter().all(|column| self.columns.contains(column))
    }

    /// The encoded row of one key, `key` being SQL of a JSON object.
    pub fn row(&self, plugin: &Plugin, key: &str) -> String {
        self.rows_of(plugin, &format!("pg_catalog.json_to_record({key})"))
    }

    /// The encoded rows of several keys, `keys` being SQL of a JSON array of objects.
    pub fn rows(&self, plugin: &Plugin, keys: &str) -> String {
        self.rows_of(plugin, &format!("pg_catalog.json_to_recordset({keys})"))
    }

    fn rows_of(&self, plugin: &Plugin, records: &str) -> String {
        format!(
            "SELECT {} FROM {} AS t, {records} AS k({}) WHERE {}",
            plugin.encode_call("t.*"),
            self.table,
            self.fields,
            self.condition
        )
    }
}
