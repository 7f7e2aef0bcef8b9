//! Rows, keys, events and what is quarantined: each reads as its schema says.

use apache_avro::types::Value;
use headwater_protocol::frame::Op;
use headwater_tests::avro::{self, Item, difference, field};
use headwater_tests::types::bytes;
use serde_json::json;

use super::{items, row, rows, schemas, type_of, value};
use crate::world::{database_with_slot, postgres};

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
