//! Avro as the plugin writes it, read back by a library that is not ours.

mod functions;
mod rows;
mod schemas;

use apache_avro::types::Value;
use headwater_tests::avro::{self, Item, Row, Schemas};
use headwater_tests::session::Session;
use headwater_tests::types::bytes;

/// What the slot holds, taken from it.
pub(crate) fn items(sql: &Session, slot: &str, options: &[&str]) -> Vec<Item> {
    let options: String = options
        .iter()
        .map(|option| match option.split_once('=') {
            Some((name, value)) => format!(", '{name}', '{value}'"),
            None => panic!("no option: {option}"),
        })
        .collect();
    let writes = sql.column(&format!(
        "select encode(data, 'hex') from pg_logical_slot_get_binary_changes(\
         '{slot}', null, null, 'output', 'frames', 'format', 'avro'{options})"
    ));
    let writes: Vec<Vec<u8>> = writes.iter().map(|write| bytes(write)).collect();
    avro::read(&writes)
}

pub(crate) fn rows(items: &[Item]) -> Vec<&Row> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Row(row) => Some(row),
            _ => None,
        })
        .collect()
}

fn schemas(items: &[Item]) -> Vec<&Schemas> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Schemas(schemas) => Some(schemas),
            _ => None,
        })
        .collect()
}

/// The one row among items.
#[track_caller]
fn row(items: &[Item]) -> &Row {
    let rows = rows(items);
    assert_eq!(rows.len(), 1, "{items:?}");
    rows[0]
}

#[track_caller]
pub(crate) fn value(row: &Row) -> &Value {
    match &row.value {
        Some(value) => value,
        None => panic!("no value: {row:?}"),
    }
}

/// The schema of a field, without the union with null around it.
#[track_caller]
fn type_of(schema: &str, name: &str) -> serde_json::Value {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let fields = schema["fields"].as_array().unwrap();
    let of = &fields.iter().find(|field| field["name"] == name).unwrap()["type"];
    match of.as_array() {
        Some(branches) if branches.len() == 2 && branches[0] == "null" => branches[1].clone(),
        _ => of.clone(),
    }
}
