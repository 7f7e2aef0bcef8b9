//! A table's key, as SQL compares and orders by it.

use headwater_protocol::avro::Fingerprint;

use super::connection::Connection;
use super::plugin::Plugin;
use super::sql;
use super::sql_error::SqlError;

/// The key's columns in the index's order: name, type, and of the index' own order the
/// operators `=`, `>` and `<`, each with its schema; the table; whether it is partitioned.
const KEY: &str = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
       en.nspname, eo.oprname, gn.nspname, go.oprname, n.nspname, c.relname, c.relkind = 'p' \
     FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
       AND CASE c.relreplident WHEN 'i' THEN i.indisreplident \
         WHEN 'n' THEN false ELSE i.indisprimary END \
     CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey), pg_catalog.unnest(i.indclass)) \
       WITH ORDINALITY AS k(attnum, class, position) \
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
     JOIN pg_catalog.pg_opclass oc ON oc.oid = k.class \
     JOIN pg_catalog.pg_amop ea ON ea.amopfamily = oc.opcfamily AND ea.amopstrategy = 3 \
       AND ea.amoplefttype = oc.opcintype AND ea.amoprighttype = oc.opcintype \
     JOIN pg_catalog.pg_operator eo ON eo.oid = ea.amopopr \
     JOIN pg_catalog.pg_namespace en ON en.oid = eo.oprnamespace \
     JOIN pg_catalog.pg_amop ga ON ga.amopfamily = oc.opcfamily AND ga.amopstrategy = 5 \
       AND ga.amoplefttype = oc.opcintype AND ga.amoprighttype = oc.opcintype \
     JOIN pg_catalog.pg_operator go ON go.oid = ga.amopopr \
     JOIN pg_catalog.pg_namespace gn ON gn.oid = go.oprnamespace \
     WHERE c.oid = $1::oid AND k.position <= i.indnkeyatts ORDER BY k.position";

/// The name of `>` in every order but those made for patterns.
const GREATER: &str = ">";

/// The key of a table that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    columns: Vec<Column>,
    schema: String,
    table: String,
    is_partitioned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    /// Quoted.
    name: String,
    /// As it is written in SQL.
    type_name: String,
    /// `OPERATOR(…)`
    equals: String,
    greater: (String, String),
}

impl Key {
    /// Reads the key of the relation with this OID. None if it has none, or is no more.
    ///
    /// # Errors
    /// What the server says.
    pub fn read(connection: &Connection, relation: u32) -> Result<Option<Self>, SqlError> {
        let oid = relation.to_string();
        let rows = connection.query_with(KEY, &[oid.as_bytes()], libpq::Format::Text)?;
        let mut columns = Vec::new();
        for row in 0..rows.len() {
            let (schema, operator) = (sql::identifier(rows.text(row, 2)?), rows.text(row, 3)?);
            let name = sql::identifier(rows.text(row, 0)?);
            // An index may have a column twice, a key has it once.
            if columns.iter().any(|column: &Column| column.name == name) {
                continue;
            }
            columns.push(Column {
                name,
                type_name: rows.text(row, 1)?.to_owned(),
                equals: format!("OPERATOR({schema}.{operator})"),
                greater: (rows.text(row, 4)?.to_owned(), rows.text(row, 5)?.to_owned()),
            });
        }
        if columns.is_empty() {
            return Ok(None);
        }
        Ok(Some(Key {
            columns,
            schema: rows.text(0, 6)?.to_owned(),
            table: rows.text(0, 7)?.to_owned(),
            is_partitioned: rows.flag(0, 8)?,
        }))
    }

    /// Whether rows can be read in its order by comparing rows of its columns.
    pub fn is_ordered(&self) -> bool {
        let mut columns = self.columns.iter();
        columns.all(|column| column.greater.1 == GREATER)
    }

    /// The schemas in which `>` is to be looked for, those that the server does not look
    /// into by itself: a comparison of rows names one operator for all columns.
    pub fn operator_schemas(&self) -> Vec<&str> {
        let schemas = self.columns.iter().map(|column| column.greater.0.as_str());
        let mut schemas: Vec<&str> = schemas.filter(|schema| *schema != "pg_catalog").collect();
        schemas.sort_unstable();
        schemas.dedup();
        schemas
    }

    /// The columns to order rows `t` by.
    pub fn order(&self) -> String {
        self.list(|column| format!("t.{}", column.name))
    }

    /// That the key of row `t` stands behind the one that `json`, an expression, has.
    ///
    /// The values come from subqueries, not from a join, so that the planner takes them for
    /// constants, goes to the place in the index and reads on from there: of a join it would
    /// sort the result.
    pub fn is_behind(&self, json: &str) -> String {
        let fields = self.fields();
        format!(
            "ROW({}) > ROW({})",
            self.order(),
            self.list(|column| format!(
                "(SELECT k.{} FROM pg_catalog.json_to_record({json}) AS k({fields}))",
                column.name
            ))
        )
    }

    /// A query of the row that has a key, `$1`, as JSON, encoded by `plugin`.
    pub fn lookup(&self, plugin: &Plugin, schemas: Option<Fingerprint>) -> String {
        let keys = "pg_catalog.json_to_record($1::pg_catalog.json)";
        self.rows_of(plugin, schemas, keys)
    }

    /// A query of the rows that have one of several keys: `keys` is SQL of a JSON array.
    pub fn lookup_all(&self, plugin: &Plugin, schemas: Option<Fingerprint>, keys: &str) -> String {
        let keys = format!("pg_catalog.json_to_recordset({keys})");
        self.rows_of(plugin, schemas, &keys)
    }

    /// A partitioned table is read through: by itself it has no rows. Which partition a row
    /// is from is said to the encoder, which has limits of partitions to keep, and a row of which nothing
    /// may be sent is none. Any other table is read without its children, which are tables of
    /// their own.
    fn rows_of(&self, plugin: &Plugin, schemas: Option<Fingerprint>, keys: &str) -> String {
        let conditions: Vec<String> = self
            .columns
            .iter()
            .map(|Column { name, equals, .. }| format!("t.{name} {equals} k.{name}"))
            .collect();
        let table = sql::qualified(&self.schema, &self.table);
        let rows = format!(
            "{table} AS t, {keys} AS k({}) WHERE {}",
            self.fields(),
            conditions.join(" AND ")
        );
        if self.is_partitioned {
            let encoded = plugin.encode_call("t.tableoid, t.*", schemas);
            // OFFSET keeps the planner from encoding each row twice, once to compare it.
            format!(
                "SELECT r.encoded FROM (SELECT {encoded} AS encoded FROM {rows} OFFSET 0) AS r \
                 WHERE r.encoded IS NOT NULL"
            )
        } else {
            let encoded = plugin.encode_call("t.*", schemas);
            format!("SELECT {encoded} FROM ONLY {rows}")
        }
    }

    /// Whether these are its columns' names, in any order.
    pub fn is_made_of(&self, names: &[String]) -> bool {
        self.columns.len() == names.len()
            && names.iter().all(|name| {
                let quoted = sql::identifier(name);
                self.columns.iter().any(|column| column.name == quoted)
            })
    }

    fn fields(&self) -> String {
        self.list(|column| format!("{} {}", column.name, column.type_name))
    }

    fn list(&self, item: impl Fn(&Column) -> String) -> String {
        let items: Vec<String> = self.columns.iter().map(item).collect();
        items.join(", ")
    }
}
