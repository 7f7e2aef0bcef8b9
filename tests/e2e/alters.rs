//! A thousand random ALTERs between writes: each row arrives with the columns that it was
//! written with, and each topic comes to its table or the table is named as stale.
//!
//! Postgres itself keeps the record: a trigger puts down what `row_to_json` says of each row
//! at the moment it is written, and after an ALTER that gave a table another file, what it
//! says of all rows.

use std::collections::{BTreeMap, BTreeSet};

use headwater_tests::session::Session;
use headwater_tests::{Client, Random, topic};
use serde_json::Value;

use crate::stale::{drop_arguments, state};
use crate::world::{World, assert_same, rows};

/// ALTERs that succeeded when the test ends.
const ALTERS: usize = 1_000;

/// Tables whose ALTERs never make them stale.
const CALM: usize = 6;
/// Tables that come to anything.
const WILD: usize = 14;

/// What writes rows at random and keeps the record.
pub(crate) const SETUP: &str = r#"
create schema audit;
create sequence audit.counter;
create table audit.log (
    n bigint primary key default nextval('audit.counter'), op text, name text, keyed bool, line text);

-- Whether rows of a table have a key, as the records have one.
create function audit.keyed(t regclass) returns bool language sql as $$
    select case relreplident
        when 'n' then false
        when 'i' then exists (select from pg_index where indrelid = t and indisreplident)
        else exists (select from pg_index where indrelid = t and indisprimary) end
    from pg_class where oid = t $$;

create function audit.logged(t regclass) returns bool language sql as
    $$ select relpersistence = 'p' from pg_class where oid = t $$;

create function audit.name(t regclass) returns text language sql as
    $$ select relnamespace::regnamespace || '.' || relname from pg_class where oid = t $$;

create function audit.note() returns trigger language plpgsql as $$
begin
    if audit.logged(tg_relid) then
        if tg_op = 'DELETE' then
            insert into audit.log (op, name, keyed, line)
                values ('d', audit.name(tg_relid), audit.keyed(tg_relid), row_to_json(old));
        else
            insert into audit.log (op, name, keyed, line)
                values (case tg_op when 'INSERT' then 'c' else 'u' end, audit.name(tg_relid),
                        audit.keyed(tg_relid), row_to_json(new));
        end if;
    end if;
    return null;
end $$;

-- After an ALTER: all rows, if it gave the table another file.
create function audit.rewritten(t regclass, file oid) returns void language plpgsql as $$
begin
    if pg_relation_filenode(t) <> file and audit.logged(t) then
        execute format('insert into audit.log (op, name, keyed, line)
            select ''u'', %L, %L, row_to_json(t) from %s t order by ctid',
            audit.name(t), audit.keyed(t), t);
    end if;
end $$;

-- A value of a column's type, decided by a number.
create function audit.literal(type_oid oid, n bigint) returns text language sql as $$
    select case
        when n % 7 = 0 then 'null'
        when type in ('integer', 'bigint', 'oid') then (n % 100000)::text
        when type = 'numeric' then (n % 100000 / 100.0)::numeric(10, 2)::text
        when type = 'double precision' then (n / 7.0)::float8::text
        when type = 'boolean' then (n % 2 = 0)::text
        when type like 'timestamp %'
            then quote_literal('2024-01-01'::timestamp + n % 100000 * interval '1 hour')
        when type = 'jsonb' then quote_literal(jsonb_build_object('n', n))
        else quote_literal(left(md5(n::text), 12)) end
    from format_type(type_oid, null) type $$;

-- Inserts, updates or deletes one row.
create function audit.write(t regclass, n bigint) returns void language plpgsql as $$
declare
    columns text; literals text; one text;
begin
    if n % 5 < 2 then
        select string_agg(quote_ident(attname), ', ' order by attnum),
               string_agg(case when attname = 'id' then quote_literal(n % 40)
                          when attname = 'k' then quote_literal(n)
                          else audit.literal(atttypid, n + attnum) end, ', ' order by attnum)
            into columns, literals
            from pg_attribute
            where attrelid = t and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = '';
        execute format('insert into %s (%s) values (%s)', t, columns, literals);
    elsif n % 5 < 4 then
        select format('%I = %s', attname, case when attname = 'id' then quote_literal(n % 40)
                      when attname = 'k' then quote_literal(n) else audit.literal(atttypid, n) end) into one
            from pg_attribute
            where attrelid = t and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = ''
            order by md5(attnum::text || n) limit 1;
        execute format('update %s set %s where ctid = (select ctid from %s order by md5(ctid::text || %s) limit 1)',
            t, one, t, n);
    else
        -- An ALTER of an empty table writes nothing by which it could be known for a rewrite.
        execute format('delete from %s where ctid = (select ctid from %s order by md5(ctid::text || %s) limit 1)
            and (select count(*) from %s) > 3', t, t, n, t);
    end if;
end $$;
"#;

/// A table under test; it keeps its OID under every name.
struct Table {
    oid: String,
    is_calm: bool,
}

/// The writer: one session, so that the order of its writes is that of the stream.
struct Writer<'w> {
    sql: &'w Session,
    random: Random,
    tables: Vec<Table>,
    /// For names that are used once.
    names: u64,
    alters: BTreeMap<&'static str, usize>,
    refused: usize,
}

#[test]
fn a_thousand_random_alters_lose_no_column_of_any_row() {
    let world = World::new("alters");
    world.sql.run("create schema alters_b");
    world.sql.run(SETUP);
    world
        .sql
        .run("create table base (id int); create role alters_owner");
    let mut writer = Writer {
        sql: &world.sql,
        random: Random::from_environment("alters"),
        tables: Vec::new(),
        names: 0,
        alters: BTreeMap::new(),
        refused: 0,
    };
    for table in 0..CALM + WILD {
        writer.create(table < CALM);
    }
    world.sql.run("truncate audit.log");

    let arguments = ["-T", "audit.*", "--unkeyed", "skip"];
    let mut client = world.stream(&arguments);
    client.streams();
    world
        .sql
        .run("select pg_create_logical_replication_slot('alters_late', 'headwater')");
    let begin = world.sql.value("select pg_current_wal_insert_lsn()");
    while writer.count() < ALTERS {
        writer.transaction();
    }
    println!("alters: {:?}, {} refused", writer.alters, writer.refused);
    world.catches_up();
    client.terminate().expect(0, &[]);

    let log = log(&world.sql);
    println!("alters: {} rows", log.len());
    assert_sequence("late", &late(&world.sql), &log);
    let keyed: Vec<Event> = log.into_iter().filter(|event| event.keyed).collect();
    assert_sequence("during", &during(&world, &begin), &keyed);

    let stale = stale_tables(&world);
    for table in &writer.tables {
        let name = writer.name(table);
        if table.is_calm {
            assert!(
                !stale.contains(&name),
                "{name} is in order, but on record as {}",
                state(world.kafka, "alters")["stale"]
            );
        }
        if !stale.contains(&name) {
            assert_rebuilt(&world, table, &name);
        }
    }
    println!("alters: {} names are stale", stale.len());
    assert!(!stale.is_empty(), "none came to be stale");

    Client::run(drop_arguments(&world)).expect(0, &[]);
    let mut client = world.stream(&arguments);
    client.streams();
    client.terminate().expect(0, &[]);
    assert_eq!(stale_tables(&world), BTreeSet::new());
    for table in &writer.tables {
        let Some(key) = key(&world.sql, table) else {
            continue;
        };
        let name = writer.name(table);
        let found = topic::fold(&topic::read(world.kafka, &name));
        assert_same(&found, &rows(&world.sql, &name, &key));
    }
}

impl Writer<'_> {
    fn count(&self) -> usize {
        self.alters.values().sum()
    }

    fn create(&mut self, is_calm: bool) {
        let name = self.fresh("t");
        self.sql.run(&format!(
            "create table {name} (id int primary key, k int not null, a int, b text, c varchar(20), \
                d timestamp, e numeric(10, 2));
             create unique index on {name} (k);
             create trigger audit after insert or update or delete on {name} \
                for each row execute function audit.note();
             insert into {name} select n, n, n, 'b' || n, 'c' || n, '2024-01-01', n / 7.0 \
                from generate_series(1, 15) n"
        ));
        let oid = self.sql.value(&format!("select '{name}'::regclass::oid"));
        self.tables.push(Table { oid, is_calm });
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Schema and name.
    fn name(&self, table: &Table) -> String {
        self.sql.value(&format!("select audit.name({})", table.oid))
    }

    /// One to six ALTERs and writes, some under a savepoint that is taken back.
    fn transaction(&mut self) {
        if self.random.below(25) == 0 {
            let table = self.random.below(self.tables.len() as u64) as usize;
            let name = self.name(&self.tables[table]);
            self.sql.run(&format!("vacuum full {name}"));
            *self.alters.entry("vacuum full").or_default() += 1;
        }
        self.sql.run("begin");
        for _ in 0..1 + self.random.below(6) {
            let under_savepoint = self.random.below(6) == 0;
            if under_savepoint {
                self.sql.run("savepoint outer_one");
            }
            for _ in 0..1 + self.random.below(3) {
                // What is altered is written to right after, more often than not.
                let table = self.random.below(self.tables.len() as u64) as usize;
                if self.random.below(3) > 0 {
                    self.alter(table);
                }
                for _ in 0..self.random.below(3) {
                    self.write(table);
                }
            }
            if under_savepoint {
                let end = ["rollback to", "release"][self.random.below(2) as usize];
                self.sql.run(&format!("{end} outer_one"));
            }
        }
        let end = if self.random.below(12) == 0 {
            "rollback"
        } else {
            "commit"
        };
        self.sql.run(end);
    }

    /// A statement that may fail and is then taken back. Says whether it did not.
    fn attempt(&self, statement: &str) -> bool {
        self.sql.run("savepoint inner_one");
        match self.sql.attempt(statement) {
            Ok(_) => {
                self.sql.run("release inner_one");
                true
            }
            Err(error) => {
                assert!(
                    !error.state.is_empty() && !error.state.starts_with("XX"),
                    "{error} in {statement}"
                );
                self.sql.run("rollback to inner_one; release inner_one");
                false
            }
        }
    }

    fn write(&mut self, table: usize) {
        let number = self.random.below(1 << 40);
        let oid = &self.tables[table].oid;
        self.attempt(&format!("select audit.write({oid}, {number})"));
    }

    fn alter(&mut self, table: usize) {
        let (oid, is_calm) = (&self.tables[table].oid, self.tables[table].is_calm);
        let name = self.name(&self.tables[table]);
        let (form, statement) = self.form(&name, &oid.clone(), is_calm);
        // What copies a heap sends nothing.
        let noted = if form == "cluster" {
            "-1".to_owned()
        } else {
            self.sql.value(&format!(
                "select pg_relation_filenode({})",
                self.tables[table].oid
            ))
        };
        let oid = &self.tables[table].oid;
        let note = if form == "cluster" {
            String::new()
        } else {
            format!("; select audit.rewritten({oid}, {noted})")
        };
        if self.attempt(&format!("{statement}{note}")) {
            *self.alters.entry(form).or_default() += 1;
        } else {
            self.refused += 1;
        }
    }

    /// A random form of ALTER TABLE, its name first.
    fn form(&mut self, table: &str, oid: &str, is_calm: bool) -> (&'static str, String) {
        // INHERIT alters the key's columns: after a rewrite that counts.
        let forms = if is_calm { 22 } else { 44 };
        let form = self.random.below(forms);
        let column = self.column(oid);
        let fresh = self.fresh("c");
        let pick = |random: &mut Random, choices: &[&'static str]| {
            choices[random.below(choices.len() as u64) as usize]
        };
        let new_type = pick(
            &mut self.random,
            &[
                "int",
                "bigint",
                "text",
                "varchar(20)",
                "numeric(10,2)",
                "float8",
                "bool",
                "timestamp",
                "jsonb",
            ],
        );
        let alter = |clause: String| format!("alter table {table} {clause}");
        match form {
            0 | 1 => ("add column", alter(format!("add {fresh} {new_type}"))),
            2 => (
                "add volatile default",
                alter(format!("add {fresh} float8 default random()")),
            ),
            3 => (
                "add generated",
                alter(format!(
                    "add {fresh} int generated always as (length(id::text)) stored"
                )),
            ),
            4 => ("add serial", alter(format!("add {fresh} bigserial"))),
            5 | 6 => {
                // The key's values have to stay what they are, and any type has a text.
                let using = match new_type {
                    "text" | "varchar(20)" => format!("left({column}::text, 20)"),
                    "bool" => format!("{column} is null"),
                    "timestamp" => "'2024-02-29'::timestamp".to_owned(),
                    "jsonb" => format!("to_jsonb({column})"),
                    _ => format!("length({column}::text)"),
                };
                (
                    "retype",
                    alter(format!(
                        "alter {column} drop default, alter {column} type {new_type} using {using}"
                    )),
                )
            }
            7 => (
                "several at once",
                alter(format!(
                    "add {fresh} text default 'const', alter {column} type text using {column} || '!'"
                )),
            ),
            8 => ("default", alter(format!("alter {column} set default null"))),
            9 => (
                "drop default",
                alter(format!("alter {column} drop default")),
            ),
            10 => ("not null", alter(format!("alter {column} set not null"))),
            11 => ("nullable", alter(format!("alter {column} drop not null"))),
            12 => (
                "storage",
                alter(format!(
                    "alter {column} set storage {}",
                    pick(&mut self.random, &["plain", "external", "extended"])
                )),
            ),
            13 => (
                "statistics",
                alter(format!("alter {column} set statistics 50")),
            ),
            14 => (
                "identity full or default",
                alter(format!(
                    "replica identity {}",
                    pick(&mut self.random, &["full", "default"])
                )),
            ),
            15 => (
                "option",
                alter(format!("set (fillfactor = {})", 50 + self.random.below(50))),
            ),
            16 => (
                "check",
                alter(format!(
                    "add check ({column} is null or {column}::text <> 'x')"
                )),
            ),
            17 => (
                "cluster",
                format!("cluster {table} using {}", self.an_index(oid)),
            ),
            18 => ("index", format!("create index on {table} ({column})")),
            19 => ("analyze", format!("analyze {table}")),
            20 => ("owner", alter("owner to current_user".to_owned())),
            21 => ("grant", format!("grant select on {table} to alters_owner")),
            22 => ("inherit", alter("inherit base".to_owned())),
            23 => ("no inherit", alter("no inherit base".to_owned())),
            24 => (
                "add constant default",
                alter(format!("add {fresh} int default 7")),
            ),
            25 | 26 => ("drop column", alter(format!("drop {column}"))),
            27 | 28 => (
                "rename column",
                alter(format!("rename {column} to {fresh}")),
            ),
            29 => (
                "drop and add",
                alter(format!("drop {column}, add {column} {new_type}")),
            ),
            30 | 31 => ("rename", alter(format!("rename to {}", self.fresh("t")))),
            32 => (
                "set schema",
                alter(format!(
                    "set schema {}",
                    pick(&mut self.random, &["alters", "alters_b"])
                )),
            ),
            33 => ("unlogged", alter("set unlogged".to_owned())),
            34 | 35 => ("logged", alter("set logged".to_owned())),
            36 => (
                "identity nothing",
                alter("replica identity nothing".to_owned()),
            ),
            37 => (
                "identity default",
                alter("replica identity default".to_owned()),
            ),
            38 => (
                "identity index",
                alter(format!(
                    "replica identity using index {}",
                    self.an_index(oid)
                )),
            ),
            39 => (
                "drop key",
                alter(format!("drop constraint {}", self.primary_key(oid))),
            ),
            40 | 41 => (
                "add key",
                alter(format!(
                    "add primary key ({})",
                    pick(&mut self.random, &["id", "id, k", "k"])
                )),
            ),
            42 => (
                "retype key",
                alter(format!(
                    "alter id type {0} using id::{0}",
                    pick(&mut self.random, &["bigint", "text", "numeric"])
                )),
            ),
            _ => (
                "without a rewrite",
                alter(format!(
                    "alter {column} type {}",
                    pick(
                        &mut self.random,
                        &["oid", "timestamptz", "varchar(40)", "text"]
                    )
                )),
            ),
        }
    }

    /// A column that is not the key's.
    fn column(&mut self, oid: &str) -> String {
        let number = self.random.number() >> 1;
        let column = self.sql.rows(&format!(
            "select attname from pg_attribute where attrelid = {oid} and attnum > 0 \
             and not attisdropped and attname not in ('id', 'k') order by md5(attnum::text || {number}) limit 1"
        ));
        column
            .into_iter()
            .next()
            .and_then(|mut row| row.swap_remove(0))
            .unwrap_or_else(|| "none".to_owned())
    }

    fn an_index(&mut self, oid: &str) -> String {
        let number = self.random.number() >> 1;
        self.first(&format!(
            "select relname from pg_index join pg_class on pg_class.oid = indexrelid \
             where indrelid = {oid} and indisunique order by md5(relname || {number}) limit 1"
        ))
    }

    fn primary_key(&self, oid: &str) -> String {
        self.first(&format!(
            "select conname from pg_constraint where conrelid = {oid} and contype = 'p'"
        ))
    }

    fn first(&self, query: &str) -> String {
        let found = self.sql.column(query).into_iter().next();
        found.unwrap_or_else(|| "none".to_owned())
    }
}

/// A change of a row.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    op: String,
    /// Schema and table.
    table: String,
    /// For a delete what is known of the row.
    row: Value,
    keyed: bool,
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// What was put down while it was written.
fn log(sql: &Session) -> Vec<Event> {
    let text = |value: Option<String>| value.unwrap_or_default();
    sql.rows("select op, name, line, keyed from audit.log order by n")
        .into_iter()
        .map(|mut row| Event {
            op: text(row[0].take()),
            table: text(row[1].take()),
            row: json(&text(row[2].take())),
            keyed: row[3].as_deref() == Some("t"),
        })
        .collect()
}

/// What a slot tells that is read when all is over.
fn late(sql: &Session) -> Vec<Event> {
    let lines = sql.column(
        "select data from pg_logical_slot_get_changes('alters_late', null, null, 'exclude_tables', 'audit.*')",
    );
    lines
        .iter()
        .map(|line| {
            let change = json(line);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (op, source) = (text(&change["op"]), &change["source"]);
            let row = if op == "d" {
                &change["before"]
            } else {
                &change["after"]
            };
            Event {
                table: format!("{}.{}", text(&source["schema"]), text(&source["table"])),
                row: row.clone(),
                keyed: true,
                op,
            }
        })
        .collect()
}

/// What was streamed meanwhile: the records of all topics in the order of their positions.
fn during(world: &World<'_>, begin: &str) -> Vec<Event> {
    let position = |text: &str| -> u64 {
        let (high, low) = text.split_once('/').unwrap();
        u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
    };
    let mut events = BTreeMap::new();
    let topics = world.kafka.topics().unwrap();
    for name in topics
        .keys()
        .filter(|name| name.starts_with("alters.") || name.starts_with("alters_b."))
    {
        for record in topic::read(world.kafka, name) {
            let lsn = position(record.header("hw.lsn"));
            let seq: u64 = record.header("hw.seq").parse().unwrap();
            let op = record.header("hw.op").to_owned();
            if op == "r" || lsn < position(begin) {
                continue;
            }
            let row = match &record.value {
                Some(value) => json(value),
                None => json(record.key.as_deref().unwrap()),
            };
            let event = Event {
                op,
                table: name.clone(),
                row,
                keyed: true,
            };
            // A key change is two records, the tombstone first.
            events.insert((lsn, seq, record.value.is_some()), event);
        }
    }
    let moved: BTreeSet<(u64, u64)> = events
        .keys()
        .filter(|(.., has_value)| *has_value)
        .map(|(lsn, seq, _)| (*lsn, *seq))
        .collect();
    events
        .into_iter()
        .filter(|((lsn, seq, has_value), _)| *has_value || !moved.contains(&(*lsn, *seq)))
        .map(|(_, event)| event)
        .collect()
}

/// Fails at the first event that differs. Of a deleted row the stream has what its identity
/// says; that has to be in the row.
#[track_caller]
fn assert_sequence(what: &str, found: &[Event], expected: &[Event]) {
    let same = |found: &Event, expected: &Event| {
        let is_part = match (&found.row, &expected.row) {
            (Value::Object(part), Value::Object(whole)) => part
                .iter()
                .all(|(name, value)| whole.get(name) == Some(value)),
            (Value::Null, _) => true,
            _ => false,
        };
        let same_row = found.row == expected.row || expected.op == "d" && is_part;
        found.op == expected.op && found.table == expected.table && same_row
    };
    for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            same(found, expected),
            "{what}: change {n} is\n{found:?}\nand was written as\n{expected:?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "changes {what}");
}

/// Schema and name of each table that is on record as stale.
fn stale_tables(world: &World<'_>) -> BTreeSet<String> {
    let state = state(world.kafka, &world.name);
    let none = Vec::new();
    let tables = state["stale"].as_array().unwrap_or(&none);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    tables
        .iter()
        .map(|stale| format!("{}.{}", text(&stale["schema"]), text(&stale["table"])))
        .collect()
}

/// The columns of a table's key, none without one.
fn key(sql: &Session, table: &Table) -> Option<String> {
    let oid = &table.oid;
    let columns = sql.column(&format!(
        "select 't.' || quote_ident(attname) from pg_class c, pg_index i, unnest(indkey) with ordinality k (number, place), pg_attribute a \
         where c.oid = {oid} and i.indrelid = c.oid and a.attrelid = c.oid and a.attnum = k.number \
         and c.relpersistence = 'p' \
         and case c.relreplident when 'i' then indisreplident when 'n' then false else indisprimary end \
         order by k.place"
    ));
    (!columns.is_empty()).then(|| columns.join(", "))
}

/// The topic comes to the table, a column that a record lacks being null.
#[track_caller]
fn assert_rebuilt(world: &World<'_>, table: &Table, name: &str) {
    let Some(key) = key(&world.sql, table) else {
        return;
    };
    let expected = rows(&world.sql, name, &key);
    let mut found = topic::fold(&topic::read(world.kafka, name));
    for (key, row) in &mut found {
        let (Some(whole), Value::Object(part)) = (expected.get(key), json(row)) else {
            continue;
        };
        let Value::Object(whole_row) = json(whole) else {
            continue;
        };
        let agrees = part.keys().all(|column| whole_row.contains_key(column))
            && whole_row
                .iter()
                .all(|(column, value)| part.get(column).unwrap_or(&Value::Null) == value);
        if agrees {
            row.clone_from(whole);
        }
    }
    assert_same(&found, &expected);
}
