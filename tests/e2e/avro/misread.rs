//! ALTERs that a registry takes although readers would misread values: the client refuses each at
//! the levels that promise otherwise.

use headwater_tests::registry::Compatibility::{self, Backward, Forward, Full, FullTransitive};
use headwater_tests::topic;

use super::stream;
use crate::world::{World, registry};

/// What a column becomes under a level, and what is told of it.
struct Case {
    level: Compatibility,
    before: &'static str,
    after: &'static str,
    /// Nothing where it is taken.
    told: &'static str,
}

const fn case(
    level: Compatibility,
    before: &'static str,
    after: &'static str,
    told: &'static str,
) -> Case {
    Case {
        level,
        before,
        after,
        told,
    }
}

/// Every kind of misread, at the levels at which the registry takes it.
const CASES: &[Case] = &[
    case(
        Full,
        "numeric(10,2)",
        "numeric",
        "decimal(10,2) of version 1 is read as string",
    ),
    case(
        Full,
        "numeric",
        "numeric(10,2)",
        "string of version 1 is read as decimal(10,2)",
    ),
    case(
        Full,
        "numeric(10,2)",
        "numeric(12,2)",
        "decimal(10,2) of version 1 is read as decimal(12,2)",
    ),
    case(
        Full,
        "bytea",
        "text",
        "bytes of version 1 is read as string",
    ),
    case(
        Full,
        "text",
        "bytea",
        "string of version 1 is read as bytes",
    ),
    case(
        Full,
        "timestamp",
        "timestamptz",
        "local-timestamp-micros(long) of version 1 is read as timestamp-micros(long)",
    ),
    case(
        Forward,
        "timestamptz",
        "timestamp",
        "local-timestamp-micros(long) is read as timestamp-micros(long) by version 1",
    ),
    case(
        Backward,
        "date",
        "timestamp",
        "date(int) of version 1 is read as local-timestamp-micros(long) by the new schema",
    ),
    case(
        Forward,
        "timestamptz",
        "date",
        "date(int) is read as timestamp-micros(long) by version 1",
    ),
    case(Full, "date", "int", "date(int) of version 1 is read as int"),
    case(
        Full,
        "bigint",
        "time",
        "long of version 1 is read as time-micros(long)",
    ),
    case(
        Full,
        "timestamp[]",
        "timestamptz[]",
        "is read as timestamp-micros(long)",
    ),
    case(Backward, "int", "bigint", ""),
    case(Forward, "bigint", "int", ""),
    case(Full, "uuid", "text", ""),
];

#[test]
fn what_readers_would_misread_is_refused_though_the_registry_takes_it() {
    let world = World::new("avro_misread");
    for (number, case) in CASES.iter().enumerate() {
        world.sql.run(&format!(
            "create table t{number} (id int primary key, c {}); insert into t{number} values (1)",
            case.before
        ));
    }
    let letters = format!("{}.letters", world.name);
    let options = ["--on-error", "quarantine", "--dead-letter-topic", &letters];
    let mut client = stream(&world, &registry().url(), &options);
    client.streams();
    let subject = |number: usize| format!("{}-value", world.topic(&format!("t{number}")));
    for (number, case) in CASES.iter().enumerate() {
        registry().set_compatibility_of(&subject(number), case.level);
        world.sql.run(&format!(
            "alter table t{number} alter c type {} using null; insert into t{number} values (2)",
            case.after
        ));
    }
    world.catches_up();
    client.terminate().expect(0, &[]);

    let letters = topic::read(world.kafka, &letters);
    for (number, case) in CASES.iter().enumerate() {
        let (table, subject) = (world.topic(&format!("t{number}")), subject(number));
        let change = format!("{table}: {} to {}", case.before, case.after);
        let mut of_table = letters.iter();
        let letter = of_table.find(|letter| letter.header("hw.relation") == table);
        let versions = registry().versions(&subject).len();
        if case.told.is_empty() {
            assert_eq!((letter, versions), (None, 2), "{change}");
            continue;
        }
        let reason = letter.map_or("", |letter| letter.header("hw.reason"));
        let level = format!(
            "{subject} has for topic \"{table}\" at level {}",
            case.level
        );
        for told in [&*level, "the registry takes it", case.told] {
            assert!(reason.contains(told), "{change}: no {told:?} in {reason:?}");
        }
        assert_eq!(versions, 1, "{change} is registered");
    }
}

/// A column that was dropped comes again under its name with another type.
#[test]
fn only_a_transitive_level_looks_behind_the_newest_schema() {
    let world = World::new("avro_misread_later");
    let tables = [("newest", Full, 3), ("every", FullTransitive, 2)];
    for (table, ..) in tables {
        world.sql.run(&format!(
            "create table {table} (id int primary key, c date); insert into {table} values (1)"
        ));
    }
    let letters = format!("{}.letters", world.name);
    let options = ["--on-error", "quarantine", "--dead-letter-topic", &letters];
    let mut client = stream(&world, &registry().url(), &options);
    client.streams();
    let subject = |table: &str| format!("{}-value", world.topic(table));
    for (table, level, _) in tables {
        registry().set_compatibility_of(&subject(table), level);
        world.sql.run(&format!(
            "alter table {table} drop c; insert into {table} values (2);
             alter table {table} add c int; insert into {table} values (3)"
        ));
    }
    world.catches_up();
    client.terminate().expect(0, &[]);
    let letters = topic::read(world.kafka, &letters);
    let reasons: Vec<_> = letters.iter().map(|it| it.header("hw.reason")).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    for told in [
        "every-value",
        "FULL_TRANSITIVE",
        "date(int) of version 1 is read as int",
    ] {
        assert!(reasons[0].contains(told), "no {told:?} in {reasons:?}");
    }
    for (table, _, versions) in tables {
        assert_eq!(
            registry().versions(&subject(table)).len(),
            versions,
            "{table}"
        );
    }
}
