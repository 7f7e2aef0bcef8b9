//! Every type of a server, against Postgres itself: a row that is streamed, and one that
//! the snapshot's encoder makes, is what `row_to_json(row)` says, in JSON byte for byte, and in
//! Avro as `apache-avro` reads it.
//!
//! Types are enumerated from `pg_type` at run time, so that one that a server, an extension
//! or a later release brings cannot be forgotten: without values in `cases.rs` the check
//! fails and names it. Each type becomes a table with a column of it, of arrays of it, of
//! domains over both, of a row type that holds it and of arrays of that.
//!
//! The oracle speaks under fixed settings. Whoever reads the stream has others: server,
//! database and role are set to whatever changes a value's text, and none of it may show.

mod cases;
mod random_text;

use std::collections::HashMap;

use headwater_protocol::frame::{Change, Frame, Frames};

use crate::avro::{self, Item};
use crate::postgres::Postgres;
use crate::random::Random;
use crate::session::Session;

/// Settings under which `row_to_json` is the oracle.
const ORACLE: &str = "set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; \
     set bytea_output = 'hex'; set extra_float_digits = 1; set lc_monetary = 'C'; \
     set search_path = pg_catalog; set xmloption = content; set jit = off";

/// What the readers are set to instead, at three levels.
const HOSTILE_SERVER: [&str; 3] = [
    "alter system set timezone = 'Asia/Kolkata'",
    "alter system set datestyle = 'German, DMY'",
    "select pg_reload_conf()",
];
const HOSTILE_DATABASE: [&str; 3] = [
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "lc_monetary = 'POSIX'",
];
const HOSTILE_ROLE: [&str; 2] = ["extra_float_digits = -3", "search_path = 'nowhere'"];
/// All of it, for a session of the tests, whose connection has its own idea of the zone.
const HOSTILE_SESSION: &str = "set timezone = 'Asia/Kolkata'; set datestyle = 'German, DMY'; \
     set intervalstyle = 'sql_standard'; set bytea_output = 'escape'; \
     set extra_float_digits = -3; set lc_monetary = 'POSIX'; set search_path = 'nowhere'";

/// Random values of each type that has any.
const RANDOM_VALUES: usize = 50;

/// A type that a column can have.
struct Type {
    /// `pg_type.typname`.
    name: String,
    /// As SQL spells it, with its schema and without a length.
    sql: String,
    /// The catalog or view whose row type it is, and how many rows to take. Views of what the
    /// machine does are not read: not every machine lets them.
    rows_of: Option<String>,
}

/// A table of values of one type.
#[derive(Clone, Debug)]
pub struct TypeTable {
    /// The type, as SQL spells it.
    pub of: String,
    /// The table, in the schema `types`.
    pub name: String,
    /// Whether the type is the row type of a catalog or a view.
    pub is_of_catalog: bool,
}

/// Key and value of a row.
type KeyAndValue = (Vec<u8>, Vec<u8>);

/// Checks every type of the server in a database of this name. Returns how many types and
/// rows were compared.
///
/// # Panics
///
/// With every row that differs (the first few of them whole), or every type without values.
pub fn check_every_type(postgres: &Postgres, database: &str) -> (usize, usize) {
    let (sql, tables) = create_every_type(postgres, database, |sql| {
        sql.run(&format!(
            "select pg_create_logical_replication_slot('{database}', 'headwater')"
        ));
    });
    set_readers(&sql, database);

    let mut expected: Vec<(&str, Vec<String>)> = Vec::new();
    for table in &tables {
        let rows = sql.column(&format!(
            "select row_to_json(t)::text from types.{} t order by id",
            table.name
        ));
        expected.push((&table.of, rows));
    }
    let count = expected.iter().map(|(_, rows)| rows.len()).sum();

    let reader = postgres.session(database);
    reader.run(HOSTILE_SESSION);
    let streamed = streamed_rows(&streamed_frames(&reader, database, "json"));
    let mut wrong = Vec::new();
    for (table, (of, expected)) in tables.iter().zip(&expected) {
        let streamed = streamed.get(&table.name).map_or(&[][..], Vec::as_slice);
        compare(
            &mut wrong,
            of,
            expected,
            streamed.iter().map(|(_, value)| text(value)),
        );
        let encoded = changes(&encoded_frames(&reader, &table.name, "json"));
        if encoded.as_slice() != streamed {
            wrong.push(format!(
                "{of}: the snapshot's bytes are not those of the stream"
            ));
        }
    }
    check_avro(&reader, database, &tables, &expected, &mut wrong);
    assert_eq!(
        reader.value("show timezone"),
        "Asia/Kolkata",
        "the reader's settings are its own again"
    );
    let mut lines = streamed_lines(postgres, &sql, database).into_iter();
    for (of, expected) in &expected {
        let rows = (&mut lines)
            .take(expected.len())
            .map(|line| match line.split_once('\t') {
                Some((_, row)) => row.to_owned(),
                None => line,
            });
        compare(&mut wrong, of, expected, rows);
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} rows are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    (tables.len(), count)
}

/// Makes a database of this name with a table for each type of the server, and prints the seed
/// of the values. `before` is called when the types are there and the tables are not. Returns a
/// session that speaks as the oracle does.
///
/// # Panics
///
/// With every type that nobody thought of values for.
pub fn create_every_type(
    postgres: &Postgres,
    database: &str,
    before: impl FnOnce(&Session),
) -> (Session, Vec<TypeTable>) {
    let mut random = Random::from_environment(database);
    let sql = postgres.database(database);
    sql.run(ORACLE);
    let version: u32 = match sql
        .value("select current_setting('server_version_num')")
        .parse()
    {
        Ok(number) => number,
        Err(e) => panic!("the server's version is no number: {e}"),
    };
    create_own_types(&sql, version / 10_000);
    before(&sql);
    let tables = create_tables(&sql, version / 10_000, &mut random);
    (sql, tables)
}

/// Types that only a user makes, and rows of catalogs that are empty otherwise.
fn create_own_types(sql: &Session, version: u32) {
    sql.run("create schema types; create extension hstore schema types; create extension citext schema types");
    sql.run(
        "create type types.mood as enum ('sad', 'it''s \"complicated\"', '日本 %s');
         create type types.pair as (a int, \"b \"\"%s\" text[]);
         create type types.nested as (p types.pair, ps types.pair[], m types.mood, d date);
         create type types.textrange as range (subtype = text, collation = \"C\");",
    );
    // A row as a value has what its table computes, and lacks what came after it.
    let computed = if version >= 18 { "virtual" } else { "stored" };
    sql.run(&format!(
        "create table types.owners (a int, gone text, b int generated always as (a * 2) stored, \
             c int generated always as (a * 3) {computed});
         insert into types.owners values (1, 'gone'), (null, null);
         alter table types.owners drop gone;
         alter table types.owners add d text default 'later'"
    ));
    sql.run(
        "create table types.statistics (a int default 1 + 1, b int);
         alter table types.statistics replica identity nothing;
         insert into types.statistics select n % 10, n % 10 from generate_series(1, 100) n;
         create statistics types.all_kinds on a, b from types.statistics;
         analyze types.statistics",
    );
}

fn create_tables(sql: &Session, version: u32, random: &mut Random) -> Vec<TypeTable> {
    let mut without_case = Vec::new();
    let mut tables = Vec::new();
    for (number, of) in types_of_the_server(sql).into_iter().enumerate() {
        let name = format!("t{number}");
        if let Some(relation) = &of.rows_of {
            if create_table_of_rows(sql, &name, &of.sql, relation) {
                tables.push(TypeTable {
                    of: of.sql,
                    name,
                    is_of_catalog: true,
                });
            }
            continue;
        }
        let Some(case) = cases::case(&of.name, version) else {
            without_case.push(of.sql);
            continue;
        };
        let mut values = case.edges;
        if let Some(value) = case.random {
            values.extend((0..RANDOM_VALUES).map(|_| value(random)));
        }
        create_table_of_values(sql, &name, &of.sql, &values);
        tables.push(TypeTable {
            of: of.sql,
            name,
            is_of_catalog: false,
        });
    }
    assert!(
        without_case.is_empty(),
        "no values for {}: add them to tests/src/types/cases.rs",
        without_case.join(", ")
    );
    tables
}

/// Every type but pseudo-types, which no column can have, and arrays of another type, which
/// come with that type.
fn types_of_the_server(sql: &Session) -> Vec<Type> {
    let rows = sql.rows(
        "select t.typname, format('%I.%I', n.nspname, t.typname), \
                case when c.relkind = 'r' or (c.relkind = 'v' and n.nspname = 'information_schema') \
                     then format('%I.%I r limit 3', n.nspname, c.relname) \
                     when c.relkind = 'v' then format('%I.%I r limit 0', n.nspname, c.relname) end \
         from pg_type t join pg_namespace n on n.oid = t.typnamespace \
              left join pg_class c on c.oid = t.typrelid \
         where t.typtype <> 'p' and t.typisdefined and n.nspname <> 'headwater' \
           and not exists (select from pg_type e where e.typarray = t.oid) \
         order by t.oid",
    );
    rows.into_iter()
        .map(|mut row| Type {
            name: row[0].take().unwrap_or_default(),
            sql: row[1].take().unwrap_or_default(),
            rows_of: row[2].take(),
        })
        .collect()
}

/// A few rows of a catalog or a view, each as one value. Some catalogs have columns that no
/// table may have; false then.
fn create_table_of_rows(sql: &Session, name: &str, of: &str, relation: &str) -> bool {
    let created = sql.attempt(&format!(
        "create table types.{name} (id serial primary key, v {of}, a {of}[])"
    ));
    match created {
        Ok(_) => {}
        // A column of a pseudo-type.
        Err(e) if e.state == "42P16" => return false,
        Err(e) => panic!("{of}: {e}"),
    }
    sql.run(&format!(
        "insert into types.{name} (v, a) select r, array[r, null] from (select r from {relation}) s"
    ));
    sql.run(&format!("insert into types.{name} default values"));
    true
}

fn create_table_of_values(sql: &Session, name: &str, of: &str, values: &[String]) {
    if values.is_empty() {
        // Nor do all of these have an array type.
        return sql.run(&format!(
            "create table types.{name} (id serial primary key, v {of}); \
             insert into types.{name} default values"
        ));
    }
    sql.run(&format!(
        "create domain types.{name}_domain as {of};
         create domain types.{name}_array as {of}[];
         create type types.{name}_row as (x {of}, \"y %n\" {of}[], z types.{name}_domain);
         create table types.{name} (id serial primary key, v {of}, a {of}[], \
             d types.{name}_domain, da types.{name}_domain[], ad types.{name}_array, \
             c types.{name}_row, ca types.{name}_row[])"
    ));
    let values: Vec<String> = values
        .iter()
        .map(|value| format!("'{}'", value.replace('\'', "''")))
        .collect();
    // `x` is the value, `y` the next one; both as text, which every type is read from.
    sql.run(&format!(
            "insert into types.{name} (v, a, d, da, ad, c, ca) \
             select x::{of}, \
                 case id % 6 when 0 then array[x]::{of}[] \
                             when 1 then array[x, null, y]::{of}[] \
                             when 2 then array[[x, y], [null, x]]::{of}[] \
                             when 3 then ('[-1:0][3:4]=' || array[[x, y], [y, x]]::text)::text[]::{of}[] \
                             when 4 then array[]::{of}[] \
                             else array[[[x], [y]], [[y], [null]]]::{of}[] end, \
                 x::{of}::types.{name}_domain, \
                 array[x, null]::{of}[]::types.{name}_domain[], \
                 array[y]::{of}[]::types.{name}_array, \
                 row(x::{of}, array[y, null]::{of}[], y::{of}::types.{name}_domain)::types.{name}_row, \
                 array[row(x::{of}, null, null)::types.{name}_row, null, row(null, null, null)::types.{name}_row] \
             from (select id, x, coalesce(lead(x) over (order by id), x) y \
                   from unnest(array[{}]) with ordinality u (x, id)) v order by id",
            values.join(",")
        ));
    sql.run(&format!("insert into types.{name} default values"));
}

fn set_readers(sql: &Session, database: &str) {
    for statement in HOSTILE_SERVER {
        sql.run(statement);
    }
    for setting in HOSTILE_DATABASE {
        sql.run(&format!("alter database {database} set {setting}"));
    }
    for setting in HOSTILE_ROLE {
        sql.run(&format!(
            "alter role postgres in database {database} set {setting}"
        ));
    }
}

/// The same rows in Avro.
fn check_avro(
    reader: &Session,
    slot: &str,
    tables: &[TypeTable],
    expected: &[(&str, Vec<String>)],
    wrong: &mut Vec<String>,
) {
    let mut streamed: HashMap<String, Vec<Item>> = HashMap::new();
    for item in avro::read(&streamed_frames(reader, slot, "avro")) {
        if let Item::Row(avro::Row { table, .. }) | Item::Quarantined(table, ..) = &item {
            streamed.entry(table.clone()).or_default().push(item);
        }
    }
    for (table, (of, rows)) in tables.iter().zip(expected) {
        let streamed = streamed.remove(&table.name).unwrap_or_default();
        if streamed.len() != rows.len() {
            let count = (streamed.len(), rows.len());
            wrong.push(format!("{of}: {} rows in Avro, not {}", count.0, count.1));
        }
        let mut bytes = Vec::new();
        for (row, item) in rows.iter().zip(&streamed) {
            let difference = match item {
                Item::Row(avro::Row {
                    value: Some(value),
                    bytes: key_and_value,
                    ..
                }) => {
                    bytes.push(key_and_value.clone());
                    avro::difference(value, row)
                }
                // The one thing that is in these values and that Avro has no number for.
                Item::Quarantined(_, _, reason) => {
                    let is_far = reason.contains("too far from 1970") && is_far_from_1970(row);
                    (!is_far).then(|| format!("quarantined: {reason}"))
                }
                item => Some(format!("{item:?}")),
            };
            if let Some(difference) = difference {
                wrong.push(format!("{of} in Avro: {}", excerpt(&difference, 0)));
            }
        }
        if changes(&encoded_frames(reader, &table.name, "avro")) != bytes {
            wrong.push(format!(
                "{of}: the snapshot's bytes are not those of the stream in Avro"
            ));
        }
    }
}

/// Whether a date of the year 294247 or later is in a text: the last microsecond that 64 bits
/// count from 1970 is in that year.
pub fn is_far_from_1970(row: &str) -> bool {
    row.split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() == 6 && digits.parse::<u32>().is_ok_and(|year| year >= 294_247))
}

/// The frames of the rows that the slot holds, read through SQL and left there.
fn streamed_frames(reader: &Session, slot: &str, format: &str) -> Vec<Vec<u8>> {
    let writes = reader.column(&format!(
        "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes(\
         '{slot}', null, null, 'output', 'frames', 'format', '{format}', 'tables', 'types.*')"
    ));
    writes.iter().map(|write| bytes(write)).collect()
}

/// The rows of frames, by table.
fn streamed_rows(writes: &[Vec<u8>]) -> HashMap<String, Vec<KeyAndValue>> {
    let mut names = HashMap::new();
    let mut rows: HashMap<String, Vec<KeyAndValue>> = HashMap::new();
    for write in writes {
        for frame in Frames::new(write) {
            match frame {
                Ok(Frame::Relation(relation)) => {
                    names.insert(relation.id, relation.table.to_owned());
                }
                Ok(Frame::Change(change)) => {
                    let table = names.get(&change.relation).cloned().unwrap_or_default();
                    rows.entry(table).or_default().push(key_and_value(&change));
                }
                Ok(Frame::Quarantine(quarantine)) => {
                    let table = names.get(&quarantine.relation).cloned().unwrap_or_default();
                    rows.entry(table)
                        .or_default()
                        .push((Vec::new(), quarantine.reason.as_bytes().to_vec()));
                }
                Ok(_) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
    rows
}

fn key_and_value(change: &Change<'_>) -> KeyAndValue {
    let part = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
    (part(change.key), part(change.value))
}

/// A table's rows as the snapshot's encoder makes them.
fn encoded_frames(reader: &Session, table: &str, format: &str) -> Vec<Vec<u8>> {
    let frames = reader.column(&format!(
        "select encode(headwater.encode(t, 'output=frames', 'format={format}'), 'hex') \
         from types.{table} t order by id"
    ));
    frames.iter().map(|frame| bytes(frame)).collect()
}

/// The rows of frames, those left out that could not be encoded.
fn changes(writes: &[Vec<u8>]) -> Vec<KeyAndValue> {
    let mut rows = Vec::new();
    for write in writes {
        for frame in Frames::new(write) {
            if let Ok(Frame::Change(change)) = frame {
                rows.push(key_and_value(&change));
            }
        }
    }
    rows
}

/// What a walsender sends.
fn streamed_lines(postgres: &Postgres, sql: &Session, slot: &str) -> Vec<String> {
    let end = sql.value("select pg_current_wal_insert_lsn()");
    let lines = crate::installation::output(
        postgres
            .pg_recvlogical(slot, slot, &end)
            .args(["-o", "envelope=row", "-o", "tables=types.t*"])
            .args(["-o", "exclude_tables=types.statistics"]),
    );
    lines.lines().map(str::to_owned).collect()
}

fn compare(
    wrong: &mut Vec<String>,
    of: &str,
    expected: &[String],
    found: impl IntoIterator<Item = String>,
) {
    let found: Vec<String> = found.into_iter().collect();
    if found.len() != expected.len() {
        wrong.push(format!(
            "{of}: {} rows, not {}",
            found.len(),
            expected.len()
        ));
    }
    for (expected, found) in expected.iter().zip(&found) {
        if expected != found {
            let at = expected
                .bytes()
                .zip(found.bytes())
                .take_while(|(expected, found)| expected == found)
                .count();
            wrong.push(format!(
                "{of}, from byte {at} on\n  row_to_json: {}\n  headwater:   {}",
                excerpt(expected, at),
                excerpt(found, at)
            ));
        }
    }
}

/// Some of a text around a byte.
fn excerpt(text: &str, at: usize) -> String {
    let bytes = text.as_bytes();
    let (start, end) = (at.saturating_sub(60), bytes.len().min(at + 120));
    String::from_utf8_lossy(&bytes[start.min(end)..end]).into_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes from hexadecimal digits.
///
/// # Panics
///
/// If there are others.
pub fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| {
            let digits = std::str::from_utf8(pair).unwrap_or_default();
            match u8::from_str_radix(digits, 16) {
                Ok(byte) => byte,
                Err(e) => panic!("{e} in {}", excerpt(hex, 0)),
            }
        })
        .collect()
}
