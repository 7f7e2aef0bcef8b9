//! No value of a row is told to anybody but the topics: not by the log at its most talkative, not
//! by the error that the client ends with, not by its metrics.

use headwater_tests::metrics::{ANYWHERE, Metrics};
use headwater_tests::registry::proxy::Proxy;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, topic};
use serde_json::Value;

use crate::poison::UNPRINTABLE;
use crate::world::{World, registry};

/// What rows hold: as text, and as the number of a type that cannot be printed.
const SECRET: &str = "sesame7f3a";
const SECRET_NUMBER: &str = "734234242";

/// Fails if a line has a value of a row, or is no event.
#[track_caller]
fn assert_tells_nothing(stderr: &str) {
    assert!(!stderr.is_empty());
    for line in stderr.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for field in ["timestamp", "level", "message"] {
            assert!(event[field].is_string(), "no {field} in {line}");
        }
        for secret in [SECRET, SECRET_NUMBER] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

/// A table, and changes of it that go wrong, each with the secrets in it.
struct Misfortune {
    table: &'static str,
    before: &'static str,
    /// Written while nobody streams.
    changes: String,
    /// What tells that it has happened.
    shows: &'static str,
}

/// Those that come from the data.
fn misfortunes() -> [Misfortune; 3] {
    [
        Misfortune {
            table: "unprintables",
            before: "create table unprintables (id int primary key, t text, v unprintable)",
            changes: format!("insert into unprintables values (1, '{SECRET}', '{SECRET_NUMBER}')"),
            shows: "headwater_table_dead_letters_total",
        },
        // By the time that its row is read, its key is none of the type of its column.
        Misfortune {
            table: "rekeyed",
            before: "create table rekeyed (id text primary key, n int, large text);
                     alter table rekeyed alter large set storage external",
            changes: format!(
                "insert into rekeyed values ('{SECRET}', 0, repeat('{SECRET}', 500));
                 update rekeyed set n = 1;
                 alter table rekeyed alter id type int using {SECRET_NUMBER}"
            ),
            shows: "headwater_stale_table",
        },
        // Larger than a topic takes by default, and does not compress.
        Misfortune {
            table: "large",
            before: "create table large (id text primary key, v text)",
            changes: format!(
                "insert into large select '{SECRET}', '{SECRET}' || string_agg(md5(n::text), '') \
                 from generate_series(1, 70000) n"
            ),
            shows: "headwater_table_dead_letters_total",
        },
    ]
}

#[test]
fn no_part_of_a_password_is_told_of_a_connection_string_that_cannot_be_read() {
    for conninfo in [
        "postgres://u:sesame%zz7f3a@127.0.0.1/d",
        "postgres://u:xq9@sesame7f3a@127.0.0.1/d",
        "postgres://u:sesame7f3a/x@127.0.0.1/d",
        "host=127.0.0.1 password=xq9 sesame7f3a",
    ] {
        for words in [
            &["stream", "--log-format", "json", "-vv"][..],
            // Without brokers, whose answer it would wait for.
            &["doctor", "--json", "--sink", "stdout"],
        ] {
            let ended = Client::start_with(words, &[("HEADWATER_DBNAME", conninfo)]).wait();
            let told = format!("{}{}", ended.stdout, ended.stderr);
            assert!(told.contains("cannot be read"), "{words:?}: {told}");
            for part in ["sesame", "7f3a", "xq9"] {
                assert!(!told.contains(part), "{words:?}: {told}");
            }
        }
    }
}

/// A schema that the registry does not take.
fn refused() -> Misfortune {
    Misfortune {
        table: "refused",
        before: "create table refused (id text primary key, v text);
                 insert into refused values ('first', 'row')",
        changes: format!(
            "alter table refused add w text; insert into refused values ('{SECRET}', '{SECRET}')"
        ),
        shows: "headwater_table_dead_letters_total",
    }
}

#[test]
fn no_value_of_a_row_is_told_whatever_goes_wrong_with_it() {
    let world = World::new("secrets");
    world.sql.run(UNPRINTABLE);
    tells_nothing(&world, &[], &misfortunes(), || ());
}

#[test]
fn no_value_of_a_row_is_told_where_the_registry_refuses_its_schema() {
    let world = World::new("secrets_avro");
    let proxy = Proxy::to(registry());
    let url = proxy.url();
    let avro = ["--format", "avro", "--registry", &url];
    tells_nothing(&world, &avro, &[refused()], || {
        proxy.answer(422, "{\"error_code\":42201,\"message\":\"not today\"}");
    });
}

fn tells_nothing(
    world: &World<'_>,
    options: &[&str],
    misfortunes: &[Misfortune],
    turn: impl FnOnce(),
) {
    for misfortune in misfortunes {
        world.sql.run(misfortune.before);
    }
    let letters = format!("{}.dead", world.name);
    let talkative = [&["--log-format", "json", "-vv"], options].concat();
    let mut client = world.stream(&talkative);
    client.says("\"streaming\"");
    world.catches_up();
    assert_tells_nothing(&client.terminate().expect(0, &[]).stderr);

    for misfortune in misfortunes {
        world.sql.run(&misfortune.changes);
    }
    turn();
    let stopped = Client::run(world.arguments(&talkative));
    assert_tells_nothing(&stopped.stderr);
    let last = stopped.stderr.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["message"], "ended by an error", "{last}");
    assert_eq!(last["exit_code"], 5, "{last}");

    let quarantine = ["--on-error", "quarantine", "--dead-letter-topic", &letters];
    let mut client = world.stream(&[&talkative[..], &quarantine, &ANYWHERE].concat());
    let metrics = Metrics::of(&mut client);
    client.says("\"streaming\"");
    let page = eventually("all of it has gone wrong", SOON, || {
        let page = metrics.page();
        let is_missing = |it: &&Misfortune| {
            let series = format!("{}{{table=\"{}.{}\"}}", it.shows, world.name, it.table);
            page.value(&series).is_none()
        };
        let missing: Vec<&str> = misfortunes
            .iter()
            .filter(is_missing)
            .map(|it| it.table)
            .collect();
        check(missing.is_empty(), || format!("but {missing:?}")).map(|()| page)
    });
    for secret in [SECRET, SECRET_NUMBER] {
        assert!(!page.to_string().contains(secret), "{page}");
    }
    world.catches_up();
    assert_tells_nothing(&client.terminate().expect(0, &[]).stderr);
    // The secrets were there to be told.
    let letters = topic::read(world.kafka, &letters);
    let has_secret = |record: &topic::Record| {
        let parts = [&record.key, &record.value];
        parts
            .into_iter()
            .flatten()
            .any(|part| part.contains(SECRET))
    };
    assert!(letters.iter().any(has_secret), "{}", letters.len());
}
