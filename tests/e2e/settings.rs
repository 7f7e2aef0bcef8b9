//! Settings from a file and from variables, as the program itself takes them.

use std::path::Path;

use headwater_tests::Client;

use crate::world::World;

fn put(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_stream_goes_by_its_file_a_variable_wins_over_it_and_the_command_line_over_both() {
    let world = World::new("settings");
    world.sql.run("create table wanted (id int primary key)");
    world.sql.run("create table other (id int primary key)");
    world
        .sql
        .run("insert into wanted values (1); insert into other values (1)");
    let folder = tempfile::tempdir().unwrap();
    let conninfo = world.postgres.conninfo(&world.name);
    let secret = put(folder.path(), "conninfo", &format!("{conninfo}\n"));
    let brokers = world.kafka.brokers();
    let settings = format!(
        "dbname = {{ file = {secret:?} }}\nslot = \"of_the_file\"\ntable = \"settings.other\"\n\
         brokers = {brokers:?}\n[kafka]\nclient.id = \"settings\"\n"
    );
    let file = put(folder.path(), "headwater.toml", &settings);
    let mut client = Client::start_with(
        ["stream", "--config", &file, "-t", "settings.wanted"],
        &[
            ("HEADWATER_SLOT", "settings"),
            ("HEADWATER_TABLE", "settings.nothing"),
        ],
    );
    client.streams();
    assert_eq!(world.slots(), ["settings"]);
    world.sql.run("insert into wanted values (2)");
    world.catches_up();
    world.topic_equals_table("wanted", "t.id");
    client.terminate().expect(0, &[]);
}

#[test]
fn a_file_that_is_wrong_is_an_error_with_its_line_and_the_check_finds_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let right = put(folder.path(), "right.toml", "slot = \"s\"\n");
    let checked = Client::run(["config", "check", "--config", &right]);
    checked.expect(0, &[]);
    let wrong = put(
        folder.path(),
        "wrong.toml",
        "slott = \"s\"\norigin = \"hunter2\"\n",
    );
    Client::run(["stream", "--config", &wrong]).expect(
        2,
        &["wrong.toml:1: unknown key \"slott\"", "Did you mean slot?"],
    );
    // It would win over --brokers.
    let brokers = put(
        folder.path(),
        "brokers.toml",
        "[kafka]\nbootstrap.servers = \"prod:9092\"\n",
    );
    Client::run(["stream", "--config", &brokers, "-b", "trial:9092"]).expect(
        2,
        &["brokers.toml:2: bootstrap.servers", "HEADWATER_BROKERS"],
    );
    Client::run(["config", "check", "--config", &wrong])
        .expect(2, &["the configuration has 2 errors"]);
    Client::run(["stream", "--config", "/nowhere.toml"])
        .expect(2, &["/nowhere.toml cannot be read"]);
}
