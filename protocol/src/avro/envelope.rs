//! The `change` envelope: the fields that it has in JSON, in the same meaning.
//!
//! What JSON leaves out is null here. That is enough to tell the three states of a column
//! apart: a name in `unchanged` says that the null in `after` stands for a value that was
//! not in the WAL, and any other null is one.

use super::write::{self, NULL, branch};
use super::{Field, FullName, Schema};

/// The schema of a table's changes, from that of its rows.
pub fn envelope_schema(name: FullName, row: Schema) -> Schema {
    let row = row.optional();
    Schema::record(
        name,
        vec![
            Field::new("before", row.clone()),
            Field::new("after", row),
            Field::new(
                "unchanged",
                Schema::Array(Box::new(Schema::String)).optional(),
            ),
            Field::new("partition", partition_schema().optional()),
            Field::new("source", source_schema()),
            Field::new("op", Schema::String),
            Field::new("ts_ms", Schema::Long.optional()),
        ],
    )
}

/// A partition that alone was truncated.
fn partition_schema() -> Schema {
    Schema::record(
        FullName::own("Partition"),
        vec![
            Field::new("schema", Schema::String),
            Field::new("table", Schema::String),
        ],
    )
}

/// The record `headwater.Source`.
fn source_schema() -> Schema {
    Schema::record(
        FullName::own("Source"),
        vec![
            Field::new("version", Schema::String),
            Field::new("connector", Schema::String),
            Field::new("snapshot", Schema::String),
            Field::new("db", Schema::String),
            Field::new("schema", Schema::String),
            Field::new("table", Schema::String),
            Field::new("txId", Schema::Long.optional()),
            Field::new("ts_ms", Schema::Long.optional()),
            Field::new("ts_us", Schema::Long.optional()),
            Field::new("lsn", Schema::Long),
            Field::new("seq", Schema::Long),
        ],
    )
}

/// What an envelope says of where a change comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Whether a snapshot read it.
    pub snapshot: bool,
    /// The database's name.
    pub database: &'a str,
    /// The schema's name, unescaped.
    pub schema: &'a str,
    /// The table's name, unescaped.
    pub table: &'a str,
    /// Transaction id and commit time in microseconds since 1970; none in a snapshot.
    pub transaction: Option<(u32, i64)>,
    /// The end of the commit, or the snapshot's consistent point.
    pub lsn: crate::Lsn,
    /// Position in the transaction.
    pub seq: u64,
}

/// Writes the field `unchanged`: the names of columns whose values are not in the WAL, as they
/// are in Postgres; null where there is none.
pub fn unchanged<'n>(out: &mut Vec<u8>, names: impl ExactSizeIterator<Item = &'n str>) {
    if names.len() == 0 {
        return branch(out, NULL);
    }
    branch(out, 1);
    write::begin_items(out, names.len());
    for name in names {
        write::string(out, name.as_bytes());
    }
    write::end_items(out);
}

/// Writes the field `partition`: schema and name of the partition that alone was truncated.
pub fn partition(out: &mut Vec<u8>, partition: Option<(&str, &str)>) {
    let Some((schema, table)) = partition else {
        return branch(out, NULL);
    };
    branch(out, 1);
    write::string(out, schema.as_bytes());
    write::string(out, table.as_bytes());
}

/// Writes the fields from `source` to the end. `op` is `c`, `u`, `d`, `r` or `t`.
pub fn envelope_end(out: &mut Vec<u8>, source: &Source<'_>, op: &str) {
    write::string(out, crate::VERSION.as_bytes());
    write::string(out, b"headwater");
    write::string(out, if source.snapshot { b"true" } else { b"false" });
    for name in [source.database, source.schema, source.table] {
        write::string(out, name.as_bytes());
    }
    match source.transaction {
        None => (0..3).for_each(|_| branch(out, NULL)),
        Some((xid, commit_micros)) => {
            for number in [
                i64::from(xid),
                commit_micros.div_euclid(1000),
                commit_micros,
            ] {
                optional_long(out, Some(number));
            }
        }
    }
    // A position in 16 exabytes of WAL, half of which no server has written.
    write::long(out, source.lsn.0.cast_signed());
    write::long(out, source.seq.cast_signed());
    write::string(out, op.as_bytes());
    let commit_time = source
        .transaction
        .map(|(_, micros)| micros.div_euclid(1000));
    optional_long(out, commit_time);
}

fn optional_long(out: &mut Vec<u8>, number: Option<i64>) {
    match number {
        None => branch(out, NULL),
        Some(number) => {
            branch(out, 1);
            write::long(out, number);
        }
    }
}
