//! Random ALTERs between writes, under a registry at FULL: each record decodes with the schema that
//! it names, which is the one that its table had when the row was written; what FULL forbids
//! is a dead letter that says so; and a topic comes to its table or the table is named as stale.
//!
//! Postgres keeps the record by a trigger, as in [`crate::alters`]: of each row what
//! `row_to_json` says of it, and the schema that `headwater.avro_schema` says its table has.

use std::collections::{BTreeMap, BTreeSet};

use headwater_tests::readers::postgres::Comparison;
use headwater_tests::readers::{Fastavro, Reader, split};
use headwater_tests::{Random, Session, topic};
use serde_json::Value;

use super::stream;
use crate::alters::SETUP;
use crate::stale::state;
use crate::world::{World, registry};

/// Tables whose ALTERs FULL allows, and that never make them stale.
const CALM: usize = 4;
/// Tables that come to anything.
const WILD: usize = 4;
const TABLES: usize = CALM + WILD;

/// The schema of a row's table goes on record with it.
const NOTES: &str = r#"
alter table audit.log add id bigint, add schema text;

create or replace function audit.note() returns trigger language plpgsql as $$
declare
    line json := case tg_op when 'DELETE' then row_to_json(old) else row_to_json(new) end;
begin
    insert into audit.log (op, name, id, line, schema)
        values (case tg_op when 'INSERT' then 'c' when 'UPDATE' then 'u' else 'd' end,
                audit.name(tg_relid), (line->>'id')::bigint, line,
                headwater.avro_schema(tg_relid, 'value'));
    return null;
end $$;

-- Keys stay: each write is then one record or one dead letter.
create function audit.keep() returns trigger language plpgsql as
    $$ begin new.id := old.id; return new; end $$;

create or replace function audit.rewritten(t regclass, file oid) returns void language plpgsql as $$
begin
    if pg_relation_filenode(t) <> file then
        execute format('insert into audit.log (op, name, id, line, schema)
            select ''u'', %L, id, row_to_json(t), %L from %s t order by ctid',
            audit.name(t), headwater.avro_schema(t, 'value'), t);
    end if;
end $$;
"#;

#[test]
fn random_alters_under_full_are_decoded_or_refused_and_never_misread() {
    run("avro_alters", 60);
}

#[test]
#[ignore = "make test-avro"]
fn a_thousand_random_alters_under_full_are_decoded_or_refused_and_never_misread() {
    run("avro_thousand", 1_000);
}

fn run(name: &str, alters: usize) {
    let world = World::new(name);
    world.sql.run(SETUP);
    world.sql.run(NOTES);
    world.sql.run("create type mood as enum ('sad', 'happy')");
    let mut writer = Writer {
        sql: &world.sql,
        random: Random::from_environment(name),
        names: 0,
        alters: BTreeMap::new(),
    };
    for table in 0..TABLES {
        writer.create(table);
    }
    world.sql.run("truncate audit.log");
    let letters = format!("{name}-dead");
    let options = [
        "-T",
        "audit.*",
        "--on-error",
        "quarantine",
        "--dead-letter-topic",
        &letters,
        "--topic-partitions",
        "1",
    ];
    let mut client = stream(&world, &registry().url(), &options);
    client.streams();
    while writer.count() < alters {
        writer.transaction();
    }
    writer.do_what_full_forbids();
    world.catches_up();
    client.terminate().expect(0, &[]);
    println!("{name}: {:?}", writer.alters);

    let mut check = Check {
        world: &world,
        reader: Reader::new(registry()),
        fastavro: Fastavro::start(),
        refused: dead_letters(&world, &letters),
        stale: stale(&world),
        delivered: 0,
    };
    for table in 0..TABLES {
        check.table(&format!("t{table}"));
    }
    let refused: usize = check.refused.values().map(Vec::len).sum();
    println!(
        "{name}: {} rows delivered, {refused} refused; {} tables are stale",
        check.delivered,
        check.stale.len()
    );
    assert!(refused > 0, "nothing was refused");
    for table in 0..CALM {
        let name = format!("{name}.t{table}");
        assert!(!check.refused.contains_key(&name), "{name} was refused");
        assert!(!check.stale.contains(&name), "{name} is stale");
    }
}

struct Writer<'w> {
    sql: &'w Session,
    random: Random,
    /// For names that are used once.
    names: u64,
    alters: BTreeMap<&'static str, usize>,
}

impl Writer<'_> {
    fn count(&self) -> usize {
        self.alters.values().sum()
    }

    fn create(&self, number: usize) {
        self.sql.run(&format!(
            "create table t{number} (id int primary key, k bigint, a int, b text, c varchar(20), \
                d timestamp, e numeric(10, 2), f mood);
             create trigger audit after insert or update or delete on t{number} \
                for each row execute function audit.note();
             create trigger keep before update on t{number} \
                for each row execute function audit.keep();
             insert into t{number} select n, n, n, 'b' || n, 'c' || n, '2024-01-01', n / 7.0, 'sad' \
                from generate_series(1, 10) n"
        ));
    }

    /// ALTERs of a table or two and writes between them.
    fn transaction(&mut self) {
        self.sql.run("begin");
        for _ in 0..1 + self.random.below(3) {
            let number = self.random.below(TABLES as u64) as usize;
            let table = format!("t{number}");
            self.alter(&table, number < CALM);
            for _ in 0..1 + self.random.below(3) {
                let number = self.random.below(1 << 40);
                self.attempt(&format!("select audit.write('{table}', {number})"));
            }
        }
        let end = match self.random.below(12) {
            0 => "rollback",
            _ => "commit",
        };
        self.sql.run(end);
    }

    fn alter(&mut self, table: &str, is_calm: bool) {
        let (form, clause) = self.form(table, is_calm);
        let file = self
            .sql
            .value(&format!("select pg_relation_filenode('{table}')"));
        let altered = self.attempt(&format!(
            "alter table {table} {clause}; select audit.rewritten('{table}', {file})"
        ));
        if altered {
            *self.alters.entry(form).or_default() += 1;
        }
    }

    /// Whatever the seed: a column whose type becomes one that reads nothing of the old one.
    fn do_what_full_forbids(&self) {
        let table = format!("t{}", TABLES - 1);
        self.sql.run(&format!(
            "alter table {table} add forbidden int; update {table} set forbidden = 1"
        ));
        let file = self
            .sql
            .value(&format!("select pg_relation_filenode('{table}')"));
        self.sql.run(&format!(
            "begin; alter table {table} alter forbidden type bool using true; \
             select audit.rewritten('{table}', {file}); commit"
        ));
    }

    /// A statement that may fail and is then taken back. Says whether it did not.
    fn attempt(&self, statement: &str) -> bool {
        self.sql.run("savepoint one");
        let outcome = self.sql.attempt(statement);
        let end = match &outcome {
            Ok(_) => "release one",
            Err(error) if error.state.starts_with("XX") => panic!("{error} in {statement}"),
            Err(_) => "rollback to one; release one",
        };
        self.sql.run(end);
        outcome.is_ok()
    }

    /// A random form of ALTER TABLE, its name first.
    fn form(&mut self, table: &str, is_calm: bool) -> (&'static str, String) {
        const TYPES: [&str; 12] = [
            "int",
            "bigint",
            "smallint",
            "text",
            "varchar(40)",
            "numeric(10,2)",
            "numeric",
            "float8",
            "bool",
            "timestamp",
            "jsonb",
            "mood",
        ];
        let of = TYPES[self.random.below(TYPES.len() as u64) as usize];
        self.names += 1;
        let fresh = format!("c{}", self.names);
        let number = self.random.number() >> 1;
        let columns = self.sql.column(&format!(
            "select attname from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 \
             and not attisdropped and attname not in ('id', 'k') order by md5(attnum::text || {number})"
        ));
        let Some(column) = columns.first() else {
            return ("add", format!("add {fresh} {of}"));
        };
        let forms = if is_calm { 8 } else { 18 };
        match self.random.below(forms) {
            0..=2 => ("add", format!("add {fresh} {of}")),
            3 => (
                "add volatile",
                format!("add {fresh} float8 default random()"),
            ),
            4 => ("not null", format!("alter {column} set not null")),
            5 => ("nullable", format!("alter {column} drop not null")),
            6 => {
                let identity = ["full", "default"][self.random.below(2) as usize];
                ("identity", format!("replica identity {identity}"))
            }
            7 => {
                let length = 20 + self.random.below(100);
                ("length", format!("alter c type varchar({length})"))
            }
            8 => (
                "add constant",
                format!("add {fresh} int not null default 7"),
            ),
            9 | 10 => ("drop", format!("drop {column}")),
            11 | 12 => ("rename", format!("rename {column} to {fresh}")),
            13 => ("drop and add", format!("drop {column}, add {column} {of}")),
            14 | 15 => (
                "retype",
                format!("alter {column} drop default, alter {column} type {of} using null"),
            ),
            16 => (
                "to text",
                format!("alter {column} type text using {column}::text"),
            ),
            _ => ("wider", format!("alter {column} type varchar(160)")),
        }
    }
}

/// A write that is on record.
struct Written {
    op: String,
    line: String,
    schema: Value,
}

struct Check<'w> {
    world: &'w World<'w>,
    reader: Reader<'w>,
    /// Resolves schemas: Apache's library takes no decimal of fewer bytes than its precision needs.
    fastavro: Fastavro,
    /// Reasons by table.
    refused: BTreeMap<String, Vec<String>>,
    stale: BTreeSet<String>,
    delivered: usize,
}

impl Check<'_> {
    /// Every write of a table is a record or a dead letter, in its order for each key.
    fn table(&mut self, table: &str) {
        let name = format!("{}.{table}", self.world.name);
        let mut written = self.written(&name);
        let mut newest: BTreeMap<i64, Option<Vec<u8>>> = BTreeMap::new();
        let mut behind: BTreeMap<i64, usize> = BTreeMap::new();
        let mut missed = 0;
        for decoded in self.reader.topic(self.world.kafka, &name) {
            let id = decoded.key["id"].as_i64().unwrap();
            let bytes = decoded.record.bytes.clone();
            newest.insert(id, bytes);
            if decoded.record.header("hw.op") == "r" {
                continue;
            }
            let writes = written.entry(id).or_default();
            let at = behind.entry(id).or_default();
            let found = writes[*at..].iter().position(|write| {
                self.reader_says_the_same(write, decoded.value.as_ref(), decoded.value_schema)
            });
            let Some(found) = found else {
                let expected = writes.get(*at).map(|write| (&write.op, &write.line));
                panic!("{name} {id}: {decoded:?}\nwritten: {expected:?}");
            };
            missed += found;
            *at += found + 1;
            self.delivered += 1;
        }
        for (id, writes) in &written {
            missed += writes.len() - behind.get(id).copied().unwrap_or(0);
        }
        let refused = self.refused.get(&name).map_or(0, Vec::len);
        assert_eq!(
            missed, refused,
            "{name}: writes without a record, dead letters"
        );
        if refused > 0 {
            assert!(self.stale.contains(&name), "{name} is not stale");
        }
        if !self.stale.contains(&name) {
            self.comes_to_its_table(&name, table, &newest);
        }
    }

    fn reader_says_the_same(
        &mut self,
        write: &Written,
        value: Option<&Value>,
        schema: Option<u32>,
    ) -> bool {
        match (value, schema) {
            (None, _) => write.op == "d",
            (Some(value), Some(schema)) => {
                let schema: Value = serde_json::from_str(self.reader.schema(schema)).unwrap();
                let comparison = Comparison::of(&schema);
                write.op != "d"
                    && write.schema == schema
                    && comparison.same(&schema, value, &write.line).is_ok()
            }
            _ => false,
        }
    }

    /// Who reads with the newest schema finds the table.
    fn comes_to_its_table(
        &mut self,
        name: &str,
        table: &str,
        newest: &BTreeMap<i64, Option<Vec<u8>>>,
    ) {
        let schema = self
            .world
            .sql
            .value(&format!("select headwater.avro_schema('{table}', 'value')"));
        let parsed: Value = serde_json::from_str(&schema).unwrap();
        let comparison = Comparison::of(&parsed);
        let mut rows = rows(self.world, table);
        for (id, bytes) in newest {
            let row = rows.remove(id);
            let (Some(bytes), Some(row)) = (bytes, &row) else {
                assert_eq!(bytes.is_some(), row.is_some(), "{name} {id}: {row:?}");
                continue;
            };
            let (id_of_schema, datum) = split(bytes).unwrap();
            let writer = self.reader.schema(id_of_schema).to_owned();
            let value = self.fastavro.read_as(&writer, Some(&schema), datum);
            let same = value.and_then(|value| comparison.same(&parsed, &value, row));
            assert_eq!(same, Ok(()), "{name} {id}");
        }
        assert_eq!(rows, BTreeMap::new(), "{name} lacks");
    }

    fn written(&self, name: &str) -> BTreeMap<i64, Vec<Written>> {
        let rows = self.world.sql.rows(&format!(
            "select id, op, line, schema from audit.log where name = '{name}' order by n"
        ));
        let mut written: BTreeMap<i64, Vec<Written>> = BTreeMap::new();
        for mut row in rows {
            let mut text = |place: usize| row[place].take().unwrap_or_default();
            let id = text(0).parse().unwrap();
            written.entry(id).or_default().push(Written {
                op: text(1),
                line: text(2),
                schema: serde_json::from_str(&text(3)).unwrap(),
            });
        }
        written
    }
}

fn rows(world: &World<'_>, table: &str) -> BTreeMap<i64, String> {
    let rows = world
        .sql
        .rows(&format!("select id, row_to_json(t)::text from {table} t"));
    rows.into_iter()
        .map(|mut row| {
            let id = row[0].as_deref().unwrap().parse().unwrap();
            (id, row[1].take().unwrap())
        })
        .collect()
}

/// The reasons of the dead letters of each table, all of which say what FULL forbids.
fn dead_letters(world: &World<'_>, topic: &str) -> BTreeMap<String, Vec<String>> {
    let mut letters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for letter in topic::read(world.kafka, topic) {
        let table = letter.header("hw.relation").to_owned();
        let reason = letter.header("hw.reason").to_owned();
        let subject = format!("subject {table}-value");
        for said in [
            "not compatible",
            "level FULL",
            &subject,
            &format!("\"{table}\""),
        ] {
            assert!(reason.contains(said), "no {said} in {reason}");
        }
        letters.entry(table).or_default().push(reason);
    }
    letters
}

fn stale(world: &World<'_>) -> BTreeSet<String> {
    let state = state(world.kafka, &world.name);
    let tables = state["stale"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    tables
        .iter()
        .map(|table| format!("{}.{}", text(&table["schema"]), text(&table["table"])))
        .collect()
}
