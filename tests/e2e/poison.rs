//! Rows that cannot be encoded. Decoding is deterministic, so what stops it stops it for
//! ever: such a row is set aside by name, its neighbours arrive, the slot moves on and the
//! server lives.

use headwater_protocol::Lsn;
use headwater_protocol::frame::{Frame, Frames};
use headwater_tests::session::Session;
use headwater_tests::slot;
use serde_json::Value;

use crate::world::{World, postgres};
use headwater_tests::types::bytes;

/// What is found where a row was to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Row(String),
    Quarantined {
        table: String,
        op: String,
        reason: String,
    },
}

/// A way to spoil a row.
struct Poison {
    name: &'static str,
    encoding: &'static str,
    /// What has to be there first.
    before: &'static str,
    /// The type of the column `value`.
    of_type: &'static str,
    /// One transaction with the rows 2 to 5, of which 2 and 4 are spoilt.
    poisoned: &'static str,
    /// What the reason names.
    reason: &'static str,
}

/// The label of an enum's value is gone: its output function raises.
const ENUM: Poison = Poison {
    name: "poison_enum",
    encoding: "UTF8",
    before: "create type mood as enum ('glad', 'gone')",
    of_type: "mood",
    poisoned: "insert into secret values (1, 'gone');
               delete from pg_enum where enumlabel = 'gone';
               insert into poisoned select 2, value from secret;
               insert into poisoned values (3, 'glad');
               insert into poisoned select 4, value from secret;
               insert into poisoned values (5, 'glad')",
    reason: "\"value\"",
};

/// Makes a type whose output function raises for every value; `'1'` is one.
pub(crate) const UNPRINTABLE: &str =
    "create type unprintable;
     create function unprintable_in(cstring) returns unprintable immutable strict language internal as 'oidin';
     create function unprintable_out(unprintable) returns cstring immutable strict language internal as 'enum_out';
     create type unprintable (input = unprintable_in, output = unprintable_out,
                              internallength = 4, alignment = int4, passedbyvalue)";

/// The output function of a type raises whatever it is given.
const OUTPUT: Poison = Poison {
    name: "poison_output",
    encoding: "UTF8",
    before: UNPRINTABLE,
    of_type: "unprintable",
    poisoned: "insert into poisoned values (2, '1');
               insert into poisoned values (3, null);
               insert into poisoned values (4, '1');
               insert into poisoned values (5, null)",
    reason: "\"value\"",
};

/// Text that is not in the database's encoding, by a cast that looks at nothing.
const BYTES: Poison = Poison {
    name: "poison_bytes",
    encoding: "EUC_JP",
    before: "create cast (bytea as text) without function",
    of_type: "text",
    poisoned: "insert into poisoned values (2, '\\xff'::bytea::text);
               insert into poisoned values (3, 'fine');
               insert into poisoned values (4, '\\xc3'::bytea::text);
               insert into poisoned values (5, 'fine')",
    reason: "\"value\"",
};

/// Text past `max_row_bytes`, compressed to almost nothing: it must not be expanded.
const LARGE: Poison = Poison {
    name: "poison_large",
    encoding: "UTF8",
    before: "select",
    of_type: "text",
    poisoned: "insert into poisoned values (2, repeat('x', 300 << 20));
               insert into poisoned values (3, 'fine');
               insert into poisoned values (4, repeat('x', 70 << 20));
               insert into poisoned values (5, 'fine')",
    reason: "max_row_bytes",
};

/// Bytes within `max_row_bytes` that are past it once they are written out.
const STORED: Poison = Poison {
    name: "poison_stored",
    encoding: "UTF8",
    before: "select",
    of_type: "bytea storage external",
    poisoned: "insert into poisoned values (2, decode(repeat('00', 40 << 20), 'hex'));
               insert into poisoned values (3, 'fine');
               insert into poisoned values (4, decode(repeat('00', 33 << 20), 'hex'));
               insert into poisoned values (5, 'fine')",
    reason: "max_row_bytes",
};

impl Poison {
    /// Makes the tables: `poisoned`, and one to take values from that are in no change.
    fn tables(&self, sql: &Session) {
        sql.run(self.before);
        // `storage external` in a column's definition is newer than the oldest server.
        let (of_type, external) = match self.of_type.split_once(" storage ") {
            Some((of_type, storage)) => (of_type, storage),
            None => (self.of_type, "default"),
        };
        let alter = match external {
            "default" => String::new(),
            storage => format!("alter table poisoned alter value set storage {storage};"),
        };
        sql.run(&format!(
            "create table poisoned (id int primary key, value {of_type}); {alter}
             create table secret (id int primary key, value {of_type})"
        ));
    }

    /// One transaction with 2 to 5 in one, between two of their own: 1 and 6.
    fn write(&self, sql: &Session) {
        sql.run("insert into poisoned values (1, null)");
        sql.run(self.poisoned);
        sql.run("insert into poisoned values (6, null)");
    }

    /// Rows 2 and 4 by name, the others whole.
    fn assert_found(&self, output: &str, found: &[(String, Found)]) {
        let ids: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        let expected = [1, 2, 3, 4, 5, 6].map(|id| format!("{{\"id\":{id}}}"));
        assert_eq!(ids, expected, "{} in {output}", self.name);
        for (key, found) in found {
            let is_poisoned = key == "{\"id\":2}" || key == "{\"id\":4}";
            match found {
                Found::Row(_) => assert!(!is_poisoned, "{} in {output}: {found:?}", self.name),
                Found::Quarantined { table, op, reason } => {
                    assert!(is_poisoned, "{} in {output}: {found:?}", self.name);
                    assert_eq!((table.as_str(), op.as_str()), ("poisoned", "c"));
                    assert!(reason.contains(self.reason), "{output}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn an_enum_without_its_label_is_quarantined() {
    neighbours_arrive(&ENUM);
}

#[test]
fn a_value_that_does_not_print_is_quarantined() {
    neighbours_arrive(&OUTPUT);
}

#[test]
fn text_that_is_not_in_its_encoding_is_quarantined() {
    neighbours_arrive(&BYTES);
}

#[test]
fn text_past_the_limit_is_quarantined() {
    neighbours_arrive(&LARGE);
}

#[test]
fn bytes_past_the_limit_once_written_are_quarantined() {
    neighbours_arrive(&STORED);
}

/// Fails unless rows 2 and 4 are set aside in either output, the other rows are there, the
/// slot moves on and the server lives.
#[track_caller]
fn neighbours_arrive(poison: &Poison) {
    let name = poison.name;
    let postmaster = postgres().session("postgres");
    let begun = postmaster.value("select pg_postmaster_start_time()");
    postmaster.run(&format!(
        "create database {name} encoding '{}' locale 'C' template template0",
        poison.encoding
    ));
    let sql = postgres().session(name);
    sql.run("create extension headwater");
    poison.tables(&sql);
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    poison.write(&sql);

    poison.assert_found("frames", &frames(&sql, name));
    // What others write meanwhile may be inserted and not yet flushed.
    let end = sql.value("select pg_current_wal_flush_lsn()");
    poison.assert_found("lines", &lines(&sql, name));
    assert!(
        slot::has_passed(&sql, name, &end),
        "{name}: the slot moves on"
    );
    sql.run(&format!("select pg_drop_replication_slot('{name}')"));
    let lives = postgres()
        .session(name)
        .value("select pg_postmaster_start_time()");
    assert_eq!(begun, lives, "the server has restarted");
}

#[test]
fn the_client_names_what_it_stops_at() {
    let poison = &LARGE;
    let world = World::new("poison_client");
    poison.tables(&world.sql);
    let mut client = world.stream(&[]);
    client.streams();
    poison.write(&world.sql);
    let ended = client.wait();
    let at = world.sql.value("select pg_current_wal_insert_lsn()");
    ended.expect(5, &["poison_client.poisoned", poison.reason]);
    let named = ended
        .stderr
        .split_whitespace()
        .filter_map(|word| word.trim_end_matches(':').rsplit_once(':'))
        .find_map(|(lsn, seq)| Some((lsn.parse::<Lsn>().ok()?, seq.parse::<u64>().ok()?)));
    let (lsn, seq) = named.unwrap_or_else(|| panic!("no position in {}", ended.stderr));
    assert!(lsn < at.parse().unwrap(), "{lsn} before {at}");
    assert_eq!(seq, 0, "position in the transaction");
    assert_eq!(
        world.folded("poisoned").keys().collect::<Vec<_>>(),
        ["{\"id\":1}"],
        "what came before it is delivered"
    );

    // Each is told what helps it: lines have no topic of dead letters.
    ended.expect(5, &["--on-error quarantine"]);
    let lines = world.stream(&["--sink", "stdout"]).wait();
    lines.expect(5, &["poison_client.poisoned", "--quarantine"]);
    assert!(!lines.stderr.contains("--on-error"), "{}", lines.stderr);
}

#[test]
fn a_message_past_the_limit_is_quarantined_in_either_output() {
    let sql = postgres().database("poison_message");
    sql.run("select pg_create_logical_replication_slot('poison_message', 'headwater')");
    sql.run(
        "begin; select pg_logical_emit_message(true, 'before', 'fine');
         select pg_logical_emit_message(true, 'outbox', repeat('x', 100 << 20));
         select pg_logical_emit_message(true, 'after', 'fine'); commit",
    );
    let alone = sql.value("select pg_logical_emit_message(false, 'alone', repeat('x', 900 << 20))");
    sql.run("select pg_logical_emit_message(false, 'last', 'fine')");
    // A message outside transactions waits for somebody else's commit to be flushed.
    sql.run("create table flushed ()");

    let writes = sql.column(
        "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes('poison_message', \
         null, null, 'output', 'frames', 'max_row_bytes', '1048576')",
    );
    let writes: Vec<Vec<u8>> = writes.iter().map(|hex| bytes(hex)).collect();
    let mut found = Vec::new();
    for frame in writes.iter().flat_map(|write| Frames::new(write)) {
        match frame.unwrap() {
            Frame::Message(message) => found.push(format!("m {}", message.prefix)),
            Frame::QuarantinedMessage(message) => {
                assert!(message.reason.contains("max_row_bytes (1048576)"));
                assert_eq!(message.transactional, message.prefix == "outbox");
                if !message.transactional {
                    assert_eq!(message.lsn.to_string(), alone, "its own position");
                }
                found.push(format!("q {} {}", message.prefix, message.seq));
            }
            Frame::Commit(commit) => found.push(format!("E {}", commit.changes)),
            _ => {}
        }
    }
    // What stands outside transactions is sent when it is read, before their commits.
    let expected = [
        "m before",
        "q outbox 1",
        "m after",
        "E 3",
        "q alone 0",
        "m last",
    ];
    assert_eq!(found, expected);

    let lines = sql.column(
        "select data from pg_logical_slot_get_changes('poison_message', null, null, \
         'max_row_bytes', '1048576')",
    );
    let found: Vec<(Value, bool)> = lines
        .iter()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let reason = line["quarantined"].as_str().unwrap_or_default();
            (
                line["message"]["prefix"].clone(),
                reason.contains("max_row_bytes"),
            )
        })
        .collect();
    let expected = [
        ("before", false),
        ("outbox", true),
        ("after", false),
        ("alone", true),
        ("last", false),
    ];
    assert_eq!(
        found,
        expected.map(|(prefix, quarantined)| (prefix.into(), quarantined))
    );
}

/// Key and what there is, of every change in frames; the slot stays where it is.
fn frames(sql: &Session, slot: &str) -> Vec<(String, Found)> {
    let writes = sql.column(&format!(
        "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes('{slot}', null, null, \
         'output', 'frames', 'tables', 'public.poisoned')"
    ));
    let writes: Vec<Vec<u8>> = writes.iter().map(|hex| bytes(hex)).collect();
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let (mut table, mut found, mut place) = (String::new(), Vec::new(), (Lsn(0), None));
    for frame in writes.iter().flat_map(|write| Frames::new(write)) {
        let seq = match frame.unwrap() {
            Frame::Relation(relation) => {
                relation.table.clone_into(&mut table);
                continue;
            }
            Frame::Begin(begin) => {
                assert!(begin.end_lsn > place.0, "{slot}: transactions in order");
                place = (begin.end_lsn, None);
                continue;
            }
            Frame::Change(change) => {
                found.push((text(change.key), Found::Row(text(change.value))));
                change.seq
            }
            Frame::Quarantine(quarantine) => {
                let key = text(quarantine.key);
                let quarantined = Found::Quarantined {
                    table: table.clone(),
                    op: quarantine.op.code().to_owned(),
                    reason: quarantine.reason.to_owned(),
                };
                found.push((key, quarantined));
                quarantine.seq
            }
            _ => continue,
        };
        assert!(Some(seq) > place.1, "{slot}: changes in order");
        place.1 = Some(seq);
    }
    found
}

/// The same of lines, which are taken.
fn lines(sql: &Session, slot: &str) -> Vec<(String, Found)> {
    let lines = sql.column(&format!(
        "select data from pg_logical_slot_get_changes('{slot}', null, null, \
         'tables', 'public.poisoned')"
    ));
    let mut place = (0, None);
    lines
        .iter()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            let source = &change["source"];
            let (lsn, seq) = (source["lsn"].as_u64().unwrap(), source["seq"].as_u64());
            assert!((lsn, seq) > place, "{slot}: changes in order");
            place = (lsn, seq);
            match change["quarantined"].as_str() {
                None => {
                    let row = &change["after"];
                    (
                        format!("{{\"id\":{}}}", row["id"]),
                        Found::Row(row.to_string()),
                    )
                }
                Some(reason) => {
                    let key = change["key"].to_string();
                    let quarantined = Found::Quarantined {
                        table: source["table"].as_str().unwrap().to_owned(),
                        op: change["op"].as_str().unwrap().to_owned(),
                        reason: reason.to_owned(),
                    };
                    (key, quarantined)
                }
            }
        })
        .collect()
}
