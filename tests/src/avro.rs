//! Rows in Avro, as a library that is not ours reads them, against what Postgres says.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use headwater_protocol::avro::escape;
use headwater_protocol::frame::{Frame, Frames, Op};
use headwater_protocol::json;
use serde_json::value::RawValue;

/// The schemas of a table's keys and values, as an `A` frame brought them.
#[derive(Clone, Debug, PartialEq)]
pub struct Schemas {
    /// The table, as the `R` before says.
    pub table: String,
    /// As JSON; none without a key.
    pub key: Option<String>,
    /// As JSON.
    pub value: String,
}

/// What stood in the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// An `A`.
    Schemas(Schemas),
    /// A change of a row.
    Row(Row),
    /// A row's change that could not be encoded: the table, its key, why.
    Quarantined(String, Option<Value>, String),
    /// A truncate: tables and their envelopes.
    Truncate(Vec<(String, Option<Value>)>),
}

/// A change of a row, decoded by the schemas that were the newest before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The table.
    pub table: String,
    /// What happened.
    pub op: Op,
    /// The key.
    pub key: Option<Value>,
    /// The key before.
    pub old_key: Option<Value>,
    /// The row or the envelope.
    pub value: Option<Value>,
    /// Their bytes.
    pub bytes: (Vec<u8>, Vec<u8>),
    /// Columns that are not in the WAL.
    pub unchanged: Vec<String>,
}

/// Reads frames, in which an `A` stands before the first row of each table.
///
/// # Panics
///
/// If a schema is none or bytes are no datum of it, to the last of them.
pub fn read(writes: &[Vec<u8>]) -> Vec<Item> {
    let mut tables: HashMap<u32, Table> = HashMap::new();
    let mut items = Vec::new();
    for write in writes {
        for frame in Frames::new(write) {
            let frame = frame.unwrap_or_else(|e| panic!("{e}"));
            items.extend(item(&mut tables, frame));
        }
    }
    items
}

#[derive(Default)]
struct Table {
    name: String,
    key: Option<Schema>,
    value: Option<Schema>,
}

impl Table {
    fn key(&self, bytes: Option<&[u8]>) -> Option<Value> {
        Some(datum(self.key.as_ref(), bytes?))
    }

    fn value(&self, bytes: Option<&[u8]>) -> Option<Value> {
        Some(datum(self.value.as_ref(), bytes?))
    }
}

fn item(tables: &mut HashMap<u32, Table>, frame: Frame<'_>) -> Option<Item> {
    let table = |tables: &HashMap<u32, Table>, id: u32| match tables.get(&id) {
        Some(_) => {}
        None => panic!("relation {id} was not described"),
    };
    match frame {
        Frame::Relation(relation) => {
            let new = Table {
                name: relation.table.to_owned(),
                ..Table::default()
            };
            tables.insert(relation.id, new);
            None
        }
        Frame::Schemas(schemas) => {
            table(tables, schemas.relation);
            let table = tables.entry(schemas.relation).or_default();
            table.key = schemas.key.map(schema);
            table.value = Some(schema(schemas.value));
            Some(Item::Schemas(Schemas {
                table: table.name.clone(),
                key: schemas.key.map(str::to_owned),
                value: schemas.value.to_owned(),
            }))
        }
        Frame::Change(change) => {
            table(tables, change.relation);
            let table = &tables[&change.relation];
            let bytes = |part: Option<&[u8]>| part.unwrap_or_default().to_vec();
            Some(Item::Row(Row {
                table: table.name.clone(),
                op: change.op,
                key: table.key(change.key),
                old_key: table.key(change.old_key),
                value: table.value(change.value),
                bytes: (bytes(change.key), bytes(change.value)),
                unchanged: change
                    .unchanged
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect(),
            }))
        }
        Frame::Quarantine(quarantine) => {
            table(tables, quarantine.relation);
            let table = &tables[&quarantine.relation];
            Some(Item::Quarantined(
                table.name.clone(),
                table.key(quarantine.key),
                quarantine.reason.to_owned(),
            ))
        }
        Frame::Truncate(truncate) => {
            let of = |(id, envelope): &(u32, Option<&[u8]>)| {
                table(tables, *id);
                (tables[id].name.clone(), tables[id].value(*envelope))
            };
            Some(Item::Truncate(truncate.relations.iter().map(of).collect()))
        }
        _ => None,
    }
}

/// A schema, by the library's own checks.
///
/// # Panics
///
/// If it is none.
pub fn schema(text: &str) -> Schema {
    Schema::parse_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

/// A datum of all these bytes: `apache-avro` makes a null of one that ends too early, and
/// leaves what comes behind its end.
fn datum(schema: Option<&Schema>, bytes: &[u8]) -> Value {
    struct Bytes<'d> {
        rest: &'d [u8],
        is_short: bool,
    }
    impl Read for Bytes<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.is_short |= into.len() > self.rest.len();
            self.rest.read(into)
        }
    }
    let Some(schema) = schema else {
        panic!("no schema came before the row");
    };
    let mut input = Bytes {
        rest: bytes,
        is_short: false,
    };
    let value = GenericDatumReader::builder(schema)
        .build()
        .and_then(|reader| reader.read_value(&mut input))
        .unwrap_or_else(|e| panic!("{e} at {bytes:02x?} of {schema:?}"));
    let left = input.rest.len();
    assert!(
        !input.is_short && left == 0,
        "{left} bytes behind {value:?}"
    );
    value
}

/// A field of a record.
///
/// # Panics
///
/// If the value is no record, or has no such field.
#[track_caller]
pub fn field<'v>(value: &'v Value, name: &str) -> &'v Value {
    let Value::Record(fields) = plain(value) else {
        panic!("no record: {value:?}");
    };
    match fields.iter().find(|(field, _)| field == name) {
        Some((_, value)) => plain(value),
        None => panic!("no field {name} in {fields:?}"),
    }
}

/// A value without the unions around it.
pub fn plain(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => plain(inner),
        value => value,
    }
}

/// How a value differs from what `row_to_json` says; none if it does not.
pub fn difference(value: &Value, json: &str) -> Option<String> {
    let differs = || Some(format!("{value:?} is not {json}"));
    let agrees = match (value, json.as_bytes()[0]) {
        (Value::Union(_, inner), _) => return difference(inner, json),
        (Value::Null, _) => json == "null",
        // Of arrays.
        (Value::Array(items), b'[') => return differences(items, &elements(json)),
        (Value::Record(_), b'[') => {
            let (Value::Array(dimensions), Value::Array(items)) =
                (field(value, "dimensions"), field(value, "elements"))
            else {
                return differs();
            };
            return differences(items, &flattened(json, dimensions.len()));
        }
        // Of composites and maps.
        (Value::Record(fields), b'{') => return members(fields, json),
        (Value::Map(map), b'{') => {
            let expected: HashMap<String, Option<String>> =
                serde_json::from_str(json).unwrap_or_default();
            let found = |value: &Value| match plain(value) {
                Value::String(text) => Some(text.clone()),
                _ => None,
            };
            let map: HashMap<_, _> = map.iter().map(|(key, v)| (key.clone(), found(v))).collect();
            map == expected
        }
        (Value::Float(number), _) => unquoted(json)
            .parse::<f32>()
            .is_ok_and(|expected| same(f64::from(*number), f64::from(expected))),
        (Value::Double(number), _) => unquoted(json)
            .parse::<f64>()
            .is_ok_and(|expected| same(*number, expected)),
        (Value::Decimal(decimal), _) => {
            let digits = json.replace('.', "");
            let unscaled = num_bigint::BigInt::from(decimal.clone());
            digits
                .parse()
                .is_ok_and(|expected: num_bigint::BigInt| unscaled == expected)
        }
        (Value::Enum(_, symbol), _) => *symbol == escape(&unquoted(json)),
        // What is JSON itself goes as its text.
        (Value::String(text), _) if text.trim() == json => true,
        (value, _) => text(value) == unquoted(json),
    };
    if agrees { None } else { differs() }
}

fn differences(items: &[Value], expected: &[Box<RawValue>]) -> Option<String> {
    if items.len() != expected.len() {
        return Some(format!("{} elements, not {}", items.len(), expected.len()));
    }
    let mut pairs = items.iter().zip(expected);
    pairs.find_map(|(item, expected)| difference(item, expected.get()))
}

fn members(fields: &[(String, Value)], json: &str) -> Option<String> {
    let expected: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json).unwrap_or_default();
    if fields.len() != expected.len() {
        return Some(format!("{} fields, not {}", fields.len(), expected.len()));
    }
    expected.iter().find_map(|(name, expected)| {
        let name = escape(name);
        match fields.iter().find(|(field, _)| *field == name) {
            Some((_, value)) => difference(value, expected.get()),
            None => Some(format!("no field {name}")),
        }
    })
}

fn elements(json: &str) -> Vec<Box<RawValue>> {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{e} in {json}"))
}

/// The elements of nested arrays.
fn flattened(json: &str, dimensions: usize) -> Vec<Box<RawValue>> {
    let outer = elements(json);
    if dimensions < 2 {
        return outer;
    }
    let inner = outer.iter();
    inner
        .flat_map(|inner| flattened(inner.get(), dimensions - 1))
        .collect()
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan())
}

/// A JSON string's text, and of anything else its JSON.
fn unquoted(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_else(|_| json.to_owned())
}

/// A value as the text that `row_to_json` has between quotes, if it has quotes.
fn text(value: &Value) -> String {
    match plain(value) {
        Value::Boolean(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Uuid(value) => value.to_string(),
        Value::Bytes(value) => printed(|out| json::bytea(out, value)),
        Value::Date(days) => printed(|out| json::date(out, since_2000_days(*days))),
        Value::TimeMicros(micros) => printed(|out| json::time(out, *micros)),
        Value::TimestampMicros(micros) => {
            printed(|out| json::timestamptz(out, since_2000(*micros)))
        }
        Value::LocalTimestampMicros(micros) => {
            printed(|out| json::timestamp(out, since_2000(*micros)))
        }
        Value::Array(ranges) => {
            let ranges: Vec<String> = ranges.iter().map(text).collect();
            format!("{{{}}}", ranges.join(","))
        }
        Value::Record(fields) => record(value, fields),
        other => format!("{other:?}"),
    }
}

/// An interval, a time with its zone, or a range.
fn record(value: &Value, fields: &[(String, Value)]) -> String {
    let int = |name| match field(value, name) {
        Value::Int(number) => *number,
        other => panic!("{name} is {other:?}"),
    };
    let micros = || match field(value, "micros") {
        Value::Long(number) | Value::TimeMicros(number) => *number,
        other => panic!("micros is {other:?}"),
    };
    match fields[0].0.as_str() {
        "months" => {
            let (months, days, micros) = (int("months"), int("days"), micros());
            match (months, days, micros) {
                (i32::MAX, i32::MAX, i64::MAX) => "infinity".to_owned(),
                (i32::MIN, i32::MIN, i64::MIN) => "-infinity".to_owned(),
                _ => printed(|out| json::interval(out, months, days, micros)),
            }
        }
        "micros" => printed(|out| json::timetz(out, micros(), -int("offset"))),
        "lower" => range(value),
        _ => format!("{fields:?}"),
    }
}

/// As `range_deparse` in `rangetypes.c` prints it.
fn range(value: &Value) -> String {
    let is = |name| *field(value, name) == Value::Boolean(true);
    if is("empty") {
        return "empty".to_owned();
    }
    let bound = |name| match field(value, name) {
        Value::Null => String::new(),
        bound => quoted_bound(&bound_text(bound)),
    };
    format!(
        "{}{},{}{}",
        if is("lower_inclusive") { '[' } else { '(' },
        bound("lower"),
        bound("upper"),
        if is("upper_inclusive") { ']' } else { ')' },
    )
}

/// The output function's text, which is not JSON's for these.
fn bound_text(bound: &Value) -> String {
    let text = text(bound);
    match bound {
        Value::TimestampMicros(_) | Value::LocalTimestampMicros(_) => {
            text.replace('T', " ").replace("+00:00", "+00")
        }
        _ => text,
    }
}

fn quoted_bound(text: &str) -> String {
    let is_special = |c: char| "\"\\()[],".contains(c) || c.is_ascii_whitespace() || c == '\u{b}';
    if !text.is_empty() && !text.contains(is_special) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\"\"");
    format!("\"{escaped}\"")
}

fn printed(print: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    print(&mut out);
    unquoted(&String::from_utf8_lossy(&out))
}

const EPOCH_DAYS: i32 = 10_957;

/// The infinities are the ends in both.
fn since_2000_days(since_1970: i32) -> i32 {
    match since_1970 {
        i32::MIN | i32::MAX => since_1970,
        days => days - EPOCH_DAYS,
    }
}

fn since_2000(since_1970: i64) -> i64 {
    match since_1970 {
        i64::MIN | i64::MAX => since_1970,
        micros => micros - i64::from(EPOCH_DAYS) * 86_400_000_000,
    }
}
