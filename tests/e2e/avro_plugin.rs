//! Avro as the plugin writes it, read back by a library that is not ours.

use apache_avro::types::Value;
use headwater_protocol::avro::Fingerprint;
use headwater_protocol::frame::Op;
use headwater_tests::avro::{self, Item, Row, Schemas, difference, field};
use headwater_tests::session::Session;
use headwater_tests::types::bytes;
use serde_json::json;

use crate::world::{database_with_slot, postgres};

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

#[test]
fn a_row_is_what_its_schema_says_and_its_key_is_plain() {
    let name = "avro_plugin_row";
    let sql = database_with_slot(name);
    sql.run(
        "create table orders (id int, region text, total numeric(10,2), note text, primary key (region, id));
         insert into orders values (7, 'north', 12.50, null)",
    );
    let items = items(&sql, name, &[]);
    let expected_key = json!({
        "type": "record", "name": "Key", "namespace": "public.orders", "fields": [
            {"name": "region", "type": "string"},
            {"name": "id", "type": "int"},
        ]
    });
    let expected_value = json!({
        "type": "record", "name": "Row", "namespace": "public.orders", "fields": [
            {"name": "id", "type": "int", "pgType": "integer"},
            {"name": "region", "type": "string", "pgType": "text"},
            {"name": "total", "type": ["null", {"type": "bytes", "logicalType": "decimal",
                "precision": 10, "scale": 2}], "default": null, "pgType": "numeric(10,2)"},
            {"name": "note", "type": ["null", "string"], "default": null, "pgType": "text"},
        ]
    });
    let told = schemas(&items)[0];
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parsed(told.key.as_deref().unwrap()), expected_key);
    assert_eq!(parsed(&told.value), expected_value);

    let row = row(&items);
    let string = |text: &str| Value::String(text.to_owned());
    assert_eq!(
        row.key,
        Some(Value::Record(vec![
            ("region".to_owned(), string("north")),
            ("id".to_owned(), Value::Int(7)),
        ]))
    );
    let json = sql.value("select row_to_json(t)::text from orders t");
    assert_eq!(difference(value(row), &json), None);

    // What SQL says is what the stream says.
    for (part, streamed) in [
        ("key", told.key.as_deref().unwrap()),
        ("value", &told.value),
    ] {
        let asked = sql.value(&format!("select headwater.avro_schema('orders', '{part}')"));
        assert_eq!(asked, *streamed, "{part}");
    }
    let described = sql.value(
        "select encode(headwater.relation('orders', 'output=frames', 'format=avro'), 'hex')",
    );
    assert_eq!(
        avro::read(&[bytes(&described)]),
        [Item::Schemas(told.clone())]
    );
    let unknown = sql
        .attempt("select headwater.avro_schema('orders', 'header')")
        .unwrap_err();
    assert_eq!(unknown.message, "\"header\" is no part of a record");
}

#[test]
fn a_key_that_changes_is_told_with_the_old_one() {
    let name = "avro_plugin_keys";
    let sql = database_with_slot(name);
    sql.run(
        "create table items (id int primary key, body text);
         insert into items values (1, 'a'); update items set body = 'b';
         update items set id = 2; delete from items",
    );
    let items = items(&sql, name, &[]);
    let key = |id| Some(Value::Record(vec![("id".to_owned(), Value::Int(id))]));
    let seen: Vec<_> = rows(&items)
        .iter()
        .map(|row| {
            (
                row.op,
                row.key.clone(),
                row.old_key.clone(),
                row.value.is_some(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (Op::Create, key(1), None, true),
            (Op::Update, key(1), None, true),
            (Op::Update, key(2), key(1), true),
            (Op::Delete, key(2), None, false),
        ]
    );
    // A snapshot gives the key the same bytes.
    sql.run("insert into items values (2, 'c')");
    let encoded = sql.value(
        "select encode(headwater.encode(t, 'output=frames', 'format=avro'), 'hex') from items t",
    );
    let described = sql
        .value("select encode(headwater.relation('items', 'output=frames', 'format=avro'), 'hex')");
    let copied = avro::read(&[bytes(&described), bytes(&encoded)]);
    let streamed = self::items(&sql, name, &[]);
    assert_eq!(row(&copied).bytes, row(&streamed).bytes);
}

#[test]
fn no_shape_of_an_array_is_lost() {
    let name = "avro_plugin_arrays";
    let sql = database_with_slot(name);
    sql.run(
        "create domain amounts as numeric(6,2)[];
         create table t (id int primary key, a int[], d amounts, n numeric(6,3)[]);
         insert into t values
           (1, '{1,null,3}', '{1.5}', '{0.125}'), (2, '{}', '{}', null), (3, null, null, null),
           (4, '{{1,2},{3,null}}', '{{1},{2}}', null), (5, '[0:1]={7,8}', null, '[5:5]={1}'),
           (6, '[-2:-2][3:5]={{1,2,3}}', null, null), (7, '[2:2]={null}', null, null)",
    );
    let items = items(&sql, name, &[]);
    let rows = rows(&items);
    let expected = sql.column("select row_to_json(t)::text from t order by id");
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(difference(value(row), expected), None);
    }
    let shape = |row: usize| match field(value(rows[row]), "a") {
        Value::Array(items) => json!(items.len()),
        Value::Null => json!(null),
        shaped => match field(shaped, "dimensions") {
            Value::Array(dimensions) => dimensions
                .iter()
                .map(|dimension| {
                    let int = |name| match field(dimension, name) {
                        Value::Int(int) => *int,
                        other => panic!("{other:?}"),
                    };
                    json!([int("length"), int("lower")])
                })
                .collect(),
            other => panic!("{other:?}"),
        },
    };
    let shapes: Vec<_> = (0..rows.len()).map(shape).collect();
    assert_eq!(
        json!(shapes),
        json!([
            3,
            0,
            null,
            [[2, 1], [2, 1]],
            [[2, 0]],
            [[1, -2], [3, 3]],
            [[1, 2]]
        ])
    );
    // An array of the key is no union with null.
    sql.run("create table k (a int[] primary key); insert into k values ('{1}'), ('{{1}}')");
    let items = self::items(&sql, name, &[]);
    let keys: Vec<u32> = self::rows(&items)
        .iter()
        .map(|row| match &row.key {
            Some(Value::Record(fields)) => match &fields[0].1 {
                Value::Union(branch, _) => *branch,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys, [0, 1]);
}

#[test]
fn types_that_are_made_of_others_keep_their_structure() {
    let name = "avro_plugin_made";
    let sql = database_with_slot(name);
    sql.run(
        "create extension hstore;
         create type point3 as (x numeric(5,1), \"y z\" int[], at timestamptz);
         create type path3 as (name text, points point3[], best point3);
         create domain short as varchar(5);
         create type mood as enum ('sad', 'it''s \"complicated\"', '');
         create type textrange as range (subtype = text, collation = \"C\");
         create table t (id int primary key, p path3, s short, m mood, ms mood[], h hstore,
           r textrange, i int4range, mr int4multirange, n numrange, ts tsrange, ra daterange[])",
    );
    sql.run(
        "insert into t values
           (1, row('way', array[row(1.5, '{1,2}', '2024-02-29 12:00+00')::point3, null],
                   row(null, null, 'infinity')::point3)::path3,
            'ab', 'sad', array['sad', null, '']::mood[], 'a=>1, b=>null, \"\"=>x',
            '[\"a b\",\"c\"\"d\")', '[1,5)', '{[1,3),[7,9)}', '(1.50,)',
            '[2024-01-01 00:00:00.5,infinity]', array['[2024-01-01,2024-02-01)', 'empty']::daterange[]),
           (2, null, null, '', '{}', '', 'empty', '(,)', '{}', 'empty', '(,2000-01-01]', null),
           (3, row(null, null, null)::path3, '', 'it''s \"complicated\"', null, null, '[\"\",x]', '(,3)',
            '{(,1),[5,)}', '[-0.001,NaN)', null, '{}')",
    );
    let items = items(&sql, name, &[]);
    let expected = sql.column("select row_to_json(t)::text from t order by id");
    assert_eq!(rows(&items).len(), 3, "{items:?}");
    for (row, expected) in rows(&items).iter().zip(&expected) {
        assert_eq!(difference(value(row), expected), None);
    }
    let schema = &schemas(&items)[0].value;
    assert_eq!(
        type_of(schema, "m"),
        json!({"type": "string", "labels": ["sad", "it's \"complicated\"", ""]})
    );
    assert_eq!(
        type_of(schema, "h"),
        json!({"type": "map", "values": ["null", "string"]})
    );
    let point = json!({"type": "record", "name": "point3", "namespace": "public", "fields": [
        {"name": "x", "type": ["null", {"type": "bytes", "logicalType": "decimal",
            "precision": 5, "scale": 1}], "default": null, "pgType": "numeric(5,1)"},
        {"name": "y_x20_z", "type": ["null", {"type": "array", "items": ["null", "int"]},
            type_of(schema, "p")["fields"][1]["type"][1]["items"][1]["fields"][1]["type"][2]],
            "default": null, "pgType": "integer[]"},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}],
            "default": null, "pgType": "timestamp with time zone"},
    ]});
    assert_eq!(
        type_of(schema, "p")["fields"][1]["type"][1]["items"][1],
        point
    );
    let of_domain = serde_json::from_str::<serde_json::Value>(schema).unwrap()["fields"][2].clone();
    assert_eq!(
        of_domain,
        json!({"name": "s", "type": ["null", "string"], "default": null,
            "pgType": "character varying(5)", "pgDomain": "public.short"})
    );

    // With --enum avro the labels are symbols, in the enum's order, however it came about.
    sql.run("alter type mood add value 'glad' before 'sad'");
    sql.run("update t set m = 'glad' where id = 1; update t set m = 'sad' where id = 1");
    let items = self::items(&sql, name, &["enum=avro"]);
    assert_eq!(
        type_of(&schemas(&items)[0].value, "m"),
        json!({"type": "enum", "name": "mood", "namespace": "public",
            "symbols": ["glad", "sad", "it_x27_s_x20__x22_complicated_x22_", "_x_"]})
    );
    let moods: Vec<_> = self::rows(&items)
        .iter()
        .map(|row| field(value(row), "m").clone())
        .collect();
    assert_eq!(
        moods,
        [
            Value::Enum(0, "glad".to_owned()),
            Value::Enum(1, "sad".to_owned())
        ]
    );
}

#[test]
fn an_enum_of_the_key_stays_a_string() {
    let name = "avro_plugin_key_enum";
    let sql = database_with_slot(name);
    sql.run(
        "create type mood as enum ('sad', 'glad'); create type other as enum ('x');
         create table t (o other, m mood primary key, ms mood[]);
         insert into t values ('x', 'glad', '{sad}')",
    );
    let before = items(&sql, name, &["enum=avro"]);
    sql.run("alter type mood add value 'so so'");
    sql.run("insert into t values ('x', 'so so')");
    let after = items(&sql, name, &["enum=avro"]);
    let told = schemas(&before)[0];
    assert_eq!(type_of(told.key.as_deref().unwrap(), "m"), json!("string"));
    assert_eq!(type_of(&told.value, "o")["type"], json!("enum"));
    assert_eq!(
        told.key,
        schemas(&after)[0].key,
        "the key's schema is the same"
    );
    assert_ne!(told.value, schemas(&after)[0].value, "the labels are not");
    let json = "{\"o\":\"x\",\"m\":\"glad\",\"ms\":[\"sad\"]}";
    assert_eq!(difference(value(row(&before)), json), None);
}

#[test]
fn what_avro_has_no_number_for_is_quarantined_and_names_its_column() {
    let name = "avro_plugin_unencodable";
    let sql = database_with_slot(name);
    sql.run(
        "create table t (id int primary key, n numeric(5,2), ts timestamp, tz timestamptz, d date)",
    );
    sql.run(
        "insert into t values (1, 'NaN'), (2, 1.25);
         insert into t (id, ts) values (3, '294276-12-31 23:59:59'), (4, 'infinity'), (5, '-infinity');
         insert into t (id, tz) values (6, '294247-01-10 04:00:54.775806+00'), (7, '294247-01-10 04:00:54.775807+00');
         insert into t (id, d) values (8, '5874897-12-31'), (9, 'infinity'), (10, '4713-01-01 BC')",
    );
    let items = items(&sql, name, &[]);
    let quarantined: Vec<(i32, &str)> = items
        .iter()
        .filter_map(|item| match item {
            Item::Quarantined(_, Some(key), reason) => match field(key, "id") {
                Value::Int(id) => Some((*id, reason.as_str())),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let far = |column: &str| {
        format!(
            "column \"{column}\" cannot be encoded: date or timestamp too far from 1970 for \
             Avro's days and microseconds"
        )
    };
    let nan = "column \"n\" cannot be encoded: NaN or infinity, which an Avro decimal cannot hold";
    assert_eq!(quarantined, [(1, nan), (3, &*far("ts")), (7, &*far("tz"))]);
    let seen: Vec<_> = rows(&items)
        .iter()
        .map(|row| {
            let columns = ["n", "ts", "tz", "d"];
            let there = |name: &&str| *field(value(row), name) != Value::Null;
            columns
                .iter()
                .find(|name| there(name))
                .map(|name| field(value(row), name).clone())
        })
        .collect();
    let days = |date: &str| -> i32 {
        let days = sql.value(&format!("select date '{date}' - date '1970-01-01'"));
        days.parse().unwrap()
    };
    assert_eq!(
        seen[1..],
        [
            Some(Value::LocalTimestampMicros(i64::MAX)),
            Some(Value::LocalTimestampMicros(i64::MIN)),
            Some(Value::TimestampMicros(i64::MAX - 1)),
            Some(Value::Date(days("5874897-12-31"))),
            Some(Value::Date(i32::MAX)),
            Some(Value::Date(days("4713-01-01 BC"))),
        ]
    );
    // The snapshot quarantines the same.
    let frames = sql.column(
        "select encode(headwater.encode(t, 'output=frames', 'format=avro'), 'hex') from t order by id",
    );
    let described =
        sql.value("select encode(headwater.relation('t', 'output=frames', 'format=avro'), 'hex')");
    let mut copied = vec![bytes(&described)];
    copied.extend(frames.iter().map(|frame| bytes(frame)));
    let reasons = |items: &[Item]| -> Vec<Item> {
        let is_quarantined = |item: &&Item| matches!(item, Item::Quarantined(..));
        items.iter().filter(is_quarantined).cloned().collect()
    };
    assert_eq!(reasons(&avro::read(&copied)), reasons(&items));
}

#[test]
fn an_envelope_tells_what_is_not_in_the_wal_from_null() {
    let name = "avro_plugin_envelope";
    let sql = database_with_slot(name);
    sql.run(
        "create table t (id int primary key, n int, big text, other text);
         alter table t alter big set storage external;
         insert into t values (1, 1, repeat('x', 10000), null);
         update t set n = 2; update t set id = 2; delete from t",
    );
    let items = items(&sql, name, &["envelope=change"]);
    let rows = rows(&items);
    assert_eq!(field(value(rows[0]), "before"), &Value::Null);
    assert_eq!(field(value(rows[0]), "unchanged"), &Value::Null);
    assert_eq!(field(value(rows[0]), "op"), &Value::String("c".to_owned()));

    let update = value(rows[1]);
    let after = field(update, "after");
    assert_eq!(field(after, "n"), &Value::Int(2));
    assert_eq!(
        (field(after, "big"), field(after, "other")),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        field(update, "unchanged"),
        &Value::Array(vec![Value::String("big".to_owned())])
    );
    assert_eq!(rows[1].unchanged, ["big"]);

    // The key alone is known of the row before.
    let before = field(value(rows[2]), "before");
    assert_eq!(field(before, "id"), &Value::Int(1));
    assert_eq!(field(before, "n"), &Value::Null);
    let source = field(value(rows[3]), "source");
    assert_eq!(field(source, "table"), &Value::String("t".to_owned()));
    assert_eq!(field(source, "db"), &Value::String(name.to_owned()));
    assert_eq!(field(source, "seq"), &Value::Long(3));
    assert_eq!(field(value(rows[3]), "after"), &Value::Null);
    assert_eq!(field(field(value(rows[3]), "before"), "id"), &Value::Int(2));

    // Under FULL the whole row is.
    sql.run(
        "alter table t replica identity full; insert into t values (3, 3, repeat('y', 10000), 'o');
         update t set n = 4",
    );
    let items = self::items(&sql, name, &["envelope=change"]);
    let update = value(self::rows(&items)[1]);
    let json = |n| {
        format!(
            "{{\"id\":3,\"n\":{n},\"big\":\"{}\",\"other\":\"o\"}}",
            "y".repeat(10_000)
        )
    };
    assert_eq!(difference(field(update, "before"), &json(3)), None);
    assert_eq!(difference(field(update, "after"), &json(4)), None);
    assert_eq!(field(update, "unchanged"), &Value::Null);
}

#[test]
fn a_truncate_of_a_partition_names_it() {
    let name = "avro_plugin_truncate";
    let sql = database_with_slot(name);
    sql.run(
        "create table t (id int primary key) partition by list (id);
         create table t_one partition of t for values in (1);
         create table t_two partition of t for values in (2);
         insert into t values (1), (2)",
    );
    sql.run("truncate t_one");
    sql.run("truncate t");
    let items = items(&sql, name, &["envelope=change"]);
    let truncated: Vec<&Value> = items
        .iter()
        .filter_map(|item| match item {
            Item::Truncate(tables) => tables[0].1.as_ref(),
            _ => None,
        })
        .collect();
    assert_eq!(truncated.len(), 2, "{items:?}");
    let partition = field(truncated[0], "partition");
    assert_eq!(
        field(partition, "table"),
        &Value::String("t_one".to_owned())
    );
    assert_eq!(field(truncated[1], "partition"), &Value::Null);
    assert_eq!(field(truncated[1], "op"), &Value::String("t".to_owned()));
    // All partitions share the table's schemas, told once.
    assert_eq!(schemas(&items).len(), 1);
}

/// Statements between one row and the next, and whether they change a schema. A row that is
/// written under a schema comes behind it.
const ALTERS: &[(&str, bool)] = &[
    ("alter type pair add attribute c int", true),
    ("alter type pair rename attribute c to d", true),
    ("alter type nested rename to deeper", true),
    ("alter type mood add value 'so so'", true),
    ("alter type mood rename value 'so so' to 'fine'", true),
    (
        "alter domain small add constraint positive check (value > 0)",
        false,
    ),
    ("alter domain small rename to smaller", true),
    ("alter domain smaller set schema elsewhere", true),
    ("alter schema elsewhere rename to there", true),
    ("alter type spread rename to spreads", true),
    ("alter table t drop column gone", true),
    ("alter table t add column later numeric(3,1)[]", true),
    ("alter table t alter later type numeric(4,1)[]", true),
    ("alter table t alter later set not null", false),
    ("analyze t", false),
    ("create table beside (id int)", false),
];

#[test]
fn schemas_come_again_before_the_first_row_that_uses_them() {
    for (name, within) in [
        ("avro_plugin_alters", false),
        ("avro_plugin_alters_within", true),
    ] {
        let sql = database_with_slot(name);
        sql.run(
            "create schema elsewhere; create type pair as (a int, b text);
             create type nested as (p pair); create type mood as enum ('sad');
             create domain small as int; create domain other as int;
             create type spread as range (subtype = other);
             create table t (id serial primary key, n nested[], m mood, s small, r spread, gone int)",
        );
        let insert = "insert into t (n, later) values (null, '{1}')";
        let insert = |sql: &Session| {
            let later = sql.value(
                "select count(*) from pg_attribute where attrelid = 't'::regclass and attname = 'later'",
            );
            match later.as_str() {
                "0" => sql.run("insert into t (n) values (null)"),
                _ => sql.run(insert),
            }
        };
        insert(&sql);
        for (alter, _) in ALTERS {
            // A value that is added to an enum cannot be used in its transaction, but is there.
            if within {
                sql.run("begin");
            }
            insert(&sql);
            sql.run(&alter.replace("set not null", "set default '{}'"));
            insert(&sql);
            if within {
                sql.run("commit");
            }
        }
        let items = items(&sql, name, &["tables=public.t"]);
        let mut told = items.iter().peekable();
        let mut changed = Vec::new();
        let mut rows = 0;
        for item in told.by_ref() {
            match item {
                Item::Schemas(_) => changed.push(rows),
                Item::Row(_) => rows += 1,
                other => panic!("{other:?}"),
            }
        }
        // A rewrite sends rows again, so places are counted where none was.
        let expected = 1 + ALTERS.iter().filter(|(_, changes)| *changes).count();
        assert_eq!(changed.len(), expected, "{name}: {changed:?}");
        let newest = schemas(&items).last().unwrap().value.clone();
        assert_eq!(
            sql.value("select headwater.avro_schema('t', 'value')"),
            newest
        );
    }
}

#[test]
fn a_table_may_have_any_name_and_no_two_share_a_schema() {
    let name = "avro_plugin_names";
    let sql = database_with_slot(name);
    let mut names = std::collections::BTreeSet::new();
    for (schema, table) in [
        ("a", "b_c"),
        ("a_b", "c"),
        ("a.b", "c"),
        ("a", "b.c"),
        ("headwater", "Source"),
        ("_x68_eadwater", "Source"),
        ("größe", "1st"),
    ] {
        if schema != "headwater" {
            sql.run(&format!("create schema if not exists \"{schema}\""));
        }
        sql.run(&format!(
            "create table \"{schema}\".\"{table}\" (\"{table}\" int primary key, \"a\"\"%s\" int)"
        ));
        let schema = sql.value(&format!(
            "select headwater.avro_schema('\"{schema}\".\"{table}\"', 'value', 'envelope=change')"
        ));
        let parsed = avro::schema(&schema);
        assert!(names.insert(parsed.name().unwrap().to_string()), "{schema}");
    }
}

#[test]
fn the_json_schema_takes_every_row_and_nothing_else() {
    let sql = postgres().database("avro_plugin_json_schema");
    sql.run(
        "create type pair as (a int, b text[]);
         create type mood as enum ('sad');
         create table t (id bigint primary key, n numeric, m mood, p pair, j jsonb, f float8 not null);
         insert into t values (1, 'NaN', 'sad', row(1, '{{a},{null}}'), '[1]', 'infinity')",
    );
    let schema: serde_json::Value =
        serde_json::from_str(&sql.value("select headwater.json_schema('t')")).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["title"], "public.t");
    assert_eq!(schema["required"], json!(["id", "m", "f"]));
    assert_eq!(schema["additionalProperties"], false);
    let nullable = |of: serde_json::Value| json!({"anyOf": [of, {"type": "null"}]});
    assert_eq!(
        schema["properties"]["id"],
        json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX})
    );
    assert_eq!(
        schema["properties"]["m"],
        nullable(json!({"enum": ["sad"]}))
    );
    assert_eq!(schema["properties"]["j"], nullable(json!(true)));
    assert_eq!(
        schema["properties"]["p"],
        nullable(json!({"$ref": "#/$defs/public.pair"}))
    );
    assert_eq!(
        schema["$defs"]["text[]"]["items"]["anyOf"][2],
        json!({"$ref": "#/$defs/text%5B%5D"})
    );
    let quoted: serde_json::Value =
        serde_json::from_str(&sql.value("select headwater.json_schema('t', 'numbers=string')"))
            .unwrap();
    assert_eq!(quoted["properties"]["id"], json!({"type": "string"}));
}

#[test]
fn a_preview_is_what_would_be_sent() {
    let sql = postgres().database("avro_plugin_preview");
    sql.run(
        "create table t (id int primary key, body text);
         insert into t values (1, E'tab\\there'), (2, null), (3, 'c');
         create schema \"my shop\"; create table \"my shop\".log (line text);
         insert into \"my shop\".log values ('x')",
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        sql.rows("select * from headwater.preview('t', 2)"),
        [
            [
                some("t"),
                some("{\"id\":1}"),
                some("{\"id\":1,\"body\":\"tab\\there\"}")
            ],
            [
                some("t"),
                some("{\"id\":2}"),
                some("{\"id\":2,\"body\":null}")
            ],
        ]
    );
    assert_eq!(
        sql.rows("select * from headwater.preview('\"my shop\".log')"),
        [[some("my_x20_shop.log"), None, some("{\"line\":\"x\"}")]]
    );
    // A column may have any name, and what others put into the schemas of who asks is not run.
    sql.run(
        "create table x (t int primary key); insert into x values (7);
         create function trap(text[], text[]) returns text[] language plpgsql
             as $$ begin raise 'somebody''s code'; end $$;
         create operator || (leftarg = text[], rightarg = text[], function = trap)",
    );
    assert_eq!(
        sql.rows("select key, value from headwater.preview('x')"),
        [[some("{\"t\":7}"), some("{\"t\":7}")]]
    );
    // With the rights of who asks.
    sql.run("create role avro_plugin_reader login");
    sql.run("grant usage on schema headwater to avro_plugin_reader; set role avro_plugin_reader");
    let refused = sql
        .attempt("select * from headwater.preview('public.t', 1)")
        .unwrap_err();
    sql.run("reset role");
    assert_eq!(refused.state, "42501", "{refused}");
}

/// A lock on a table keeps nobody from altering a type that its columns are made of.
#[test]
fn rows_are_not_encoded_under_schemas_that_the_table_had() {
    let sql = postgres().database("avro_plugin_bound");
    sql.run(
        "create type address as (street text);
         create table t (id int primary key, a address, note text);
         insert into t values (1, row('Via Roma'), 'n')",
    );
    let fingerprint = || {
        let schema = |part| sql.value(&format!("select headwater.avro_schema('t', '{part}')"));
        Fingerprint::of(Some(&schema("key")), &schema("value"))
    };
    let encode = |schemas: Fingerprint| {
        sql.attempt(&format!(
            "select headwater.encode(t.*, 'format=avro', 'output=frames', 'schemas={schemas}') from t"
        ))
    };
    let before = fingerprint();
    assert_eq!(encode(before).map(|rows| rows.len()).ok(), Some(1));
    sql.run("begin isolation level repeatable read; select from t");
    let other = postgres().session("avro_plugin_bound");
    other.run("alter type address add attribute zip text");
    let refused = encode(before).unwrap_err();
    assert_eq!(refused.state, "40001", "{refused}");
    assert!(refused.to_string().contains("\"public.t\""), "{refused}");
    sql.run("rollback");
    assert_eq!(encode(fingerprint()).map(|rows| rows.len()).ok(), Some(1));
}

/// Who may not read a table may not hold up those who alter it either.
#[test]
fn to_describe_a_table_keeps_no_lock_that_a_user_could_not_take() {
    let sql = postgres().database("avro_plugin_lock");
    sql.run(
        "create table t (id int primary key);
         create role avro_plugin_stranger login;
         grant usage on schema headwater to avro_plugin_stranger",
    );
    let locks = "select count(*) from pg_locks where pid = pg_backend_pid() \
                 and relation = 'public.t'::regclass";
    for (role, kept) in [("avro_plugin_stranger", "0"), ("postgres", "1")] {
        sql.run(&format!("set role {role}; begin"));
        sql.run("select headwater.relation('public.t'), headwater.avro_schema('public.t', 'key')");
        assert_eq!(sql.value(locks), kept, "{role}");
        sql.run("commit; reset role");
    }
}

#[test]
fn text_of_another_encoding_is_utf8() {
    let name = "avro_plugin_latin1";
    postgres().session("postgres").run(&format!(
        "create database {name} encoding 'LATIN1' locale 'C' template template0"
    ));
    let sql = postgres().session(name);
    sql.run("set client_encoding = 'UTF8'");
    sql.run(
        "create extension headwater; create extension hstore;
         create type stimmung as enum ('fröhlich');
         create table \"größe\" (\"schlüssel\" text primary key, m stimmung, h hstore, j jsonb, t text[])",
    );
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql.run("insert into \"größe\" values ('é', 'fröhlich', 'ä=>ö', '{\"ü\": \"ß\"}', '{é,null}')");
    let items = items(&sql, name, &[]);
    let json = "{\"schlüssel\":\"é\",\"m\":\"fröhlich\",\"h\":{\"ä\":\"ö\"},\"j\":{\"ü\": \"ß\"},\"t\":[\"é\",null]}";
    assert_eq!(difference(value(row(&items)), json), None);
    // A schema as SQL's text says the same in ASCII.
    let asked = sql.value("select headwater.avro_schema('\"größe\"', 'value')");
    assert!(
        asked.is_ascii() && asked.contains("fr\\u00f6hlich"),
        "{asked}"
    );
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parsed(&asked), parsed(&schemas(&items)[0].value));
}

#[test]
fn a_row_without_its_key_is_none() {
    let sql = postgres().database("avro_plugin_no_key");
    sql.run("create table t (id int primary key, n int)");
    let frames = sql.column(
        "select encode(headwater.relation('t', 'output=frames', 'format=avro')
                       || headwater.encode(row(null, 1)::t, 'output=frames', 'format=avro'), 'hex')",
    );
    let items = avro::read(&[bytes(&frames[0])]);
    let reason = "the row has no value for key column \"id\"";
    assert_eq!(
        items[1],
        Item::Quarantined("t".to_owned(), None, reason.to_owned())
    );
}

#[test]
fn a_numeric_of_fixed_scale_is_a_decimal_with_every_digit() {
    let name = "avro_plugin_decimals";
    let sql = database_with_slot(name);
    let modifiers = [
        (1, 0),
        (9, 4),
        (18, 18),
        (19, 2),
        (20, 0),
        (38, 10),
        (39, 0),
        (400, 200),
        (1000, 999),
    ];
    let mut expected = Vec::new();
    for (precision, scale) in modifiers {
        let table = format!("n{precision}");
        sql.run(&format!(
            "create domain d{precision} as numeric({precision},{scale});
             create table {table} (id serial primary key, n numeric({precision},{scale}), d d{precision}, a d{precision}[]);
             insert into {table} (n, d, a) select v, -v, array[v, null, 0]
             from (select (10::numeric ^ n - least(n, 1)) * 10::numeric ^ -{scale} as v
                   from unnest(array[0, 1, {precision} / 3, {precision} / 2, {precision} - 1, {precision}]) n) s
             where v < 10::numeric ^ ({precision} - {scale})"
        ));
        let rows = sql.column(&format!(
            "select row_to_json(t)::text from {table} t order by id"
        ));
        expected.extend(rows);
    }
    let items = items(&sql, name, &[]);
    let rows = rows(&items);
    assert_eq!(rows.len(), expected.len(), "{items:?}");
    assert!(rows.len() > 40, "{expected:?}");
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(difference(value(row), expected), None);
    }
    for (schemas, (precision, scale)) in schemas(&items).iter().zip(modifiers) {
        let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale});
        assert_eq!(type_of(&schemas.value, "n"), decimal);
        assert_eq!(type_of(&schemas.value, "d"), decimal);
    }
    // Those that Avro has no decimal for are strings. Such scales are there from 15 on.
    let has_any_scale = sql.holds("select current_setting('server_version_num')::int >= 150000");
    let (wide, narrow) = match has_any_scale {
        true => ("numeric(3,-2)", "numeric(2,5)"),
        false => ("numeric", "numeric"),
    };
    sql.run(&format!(
        "create table t (id int primary key, plain numeric, wide {wide}, narrow {narrow});
         insert into t values (1, 'NaN', 12345, 0.00012), (2, null, -5, -0.00099)"
    ));
    let items = self::items(&sql, name, &[]);
    let expected = sql.column("select row_to_json(t)::text from t order by id");
    for (row, expected) in self::rows(&items).iter().zip(&expected) {
        assert_eq!(difference(value(row), expected), None);
    }
    for column in ["plain", "wide", "narrow"] {
        assert_eq!(type_of(&schemas(&items)[0].value, column), json!("string"));
    }
}
