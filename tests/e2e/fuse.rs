//! `--max-retained-wal`: Kafka may be away for as long as it likes, and the server lives.

use headwater_tests::keeper::Exit;
use headwater_tests::postgres::Options;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::World;

/// A server that removes WAL as soon as nobody keeps it.
fn server() -> Postgres {
    Options::default()
        .setting("min_wal_size", "32MB")
        .setting("max_wal_size", "64MB")
        .start()
}

fn world<'s>(postgres: &'s Postgres, kafka: &'s Kafka, name: &str) -> World<'s> {
    let world = World::on(postgres, kafka, name);
    world
        .sql
        .run("create table items (id int primary key, pad text)");
    world
        .sql
        .run("alter table items alter pad set storage plain");
    world
}

/// A stopped process keeps its connections and answers nothing, as a broker behind a
/// broken network does.
fn signal(kafka: &Kafka, signal: Signal) {
    kill(Pid::from_raw(kafka.pid().cast_signed()), signal).unwrap();
}

/// Writes about 2 MB of WAL.
fn write(world: &World<'_>) {
    world.sql.run(
        "insert into items select n + (select coalesce(max(id), 0) from items), repeat('x', 2000) \
         from generate_series(1, 1000) n",
    );
}

/// Writes until the slot keeps more than so many megabytes, or is gone.
fn write_until_kept(world: &World<'_>, megabytes: u64) {
    eventually("the slot keeps enough", SOON, || {
        write(world);
        let enough = world.sql.holds(&format!(
            "select coalesce(bool_and(pg_current_wal_lsn() - restart_lsn > {megabytes} << 20), true) \
             from pg_replication_slots where slot_name = '{}'",
            world.name
        ));
        check(enough, || "not yet".into())
    });
}

fn warnings(stderr: &str) -> usize {
    stderr.matches("the slot keeps WAL").count()
}

/// Writes past 70 percent of 40 MB, of which the client warns, then past all of it.
fn write_past_the_limit(world: &World<'_>, client: &mut Client) {
    write_until_kept(world, 30);
    client.says("because=");
    write_until_kept(world, 40);
}

/// No file of the WAL is as old as the slot needed.
fn wal_is_freed(world: &World<'_>, kept: &str) {
    eventually("the WAL is removed", SOON, || {
        world.sql.run("checkpoint");
        let oldest = world
            .sql
            .value("select min(name) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'");
        check(oldest.as_str() > kept, || {
            format!("{oldest} is there, {kept} was kept")
        })
    });
}

#[test]
fn a_slot_past_the_limit_is_dropped_and_a_snapshot_mends_the_gap() {
    let (postgres, kafka) = (server(), Kafka::new());
    let world = world(&postgres, &kafka, "fuse_drop");
    let fuse = [
        "--max-retained-wal",
        "40MB",
        "--on-retained-wal",
        "drop-slot",
    ];
    let mut client = world.stream(&fuse);
    client.streams();
    write(&world);
    world.catches_up();
    let kept = world
        .sql
        .value("select pg_walfile_name(restart_lsn) from pg_replication_slots");

    signal(&kafka, Signal::SIGSTOP);
    write_past_the_limit(&world, &mut client);
    eventually("the slot is dropped", SOON, || {
        let slots = world.slots();
        check(slots.is_empty(), || format!("{slots:?}"))
    });
    wal_is_freed(&world, &kept);
    let ended = client.wait();
    ended.expect(3, &["was dropped", "--max-retained-wal", "--resnapshot"]);
    assert_eq!(warnings(&ended.stderr), 1, "{}", ended.stderr);

    signal(&kafka, Signal::SIGCONT);
    world.sql.run("delete from items where id % 2 = 0");
    world
        .stream(&fuse)
        .wait()
        .expect(3, &["\"fuse_drop\" is gone", "--resnapshot"]);
    let mut client = world.stream(&[&fuse[..], &["--resnapshot"]].concat());
    client.streams();
    write(&world);
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}

/// A supervisor starts the client again and again while Kafka is away.
#[test]
fn the_fuse_holds_at_a_start_without_kafka() {
    let (postgres, mut kafka) = (server(), Kafka::new());
    let name = "fuse_start";
    {
        let world = world(&postgres, &kafka, name);
        world.streamed(&[], || write(&world));
    }
    kafka.kill();
    let world = World::found(&postgres, &kafka, name);
    let fuse = [
        "--max-retained-wal",
        "20MB",
        "--on-retained-wal",
        "drop-slot",
    ];
    world.stream(&fuse).wait().expect(1, &[&kafka.brokers()]);
    assert_eq!(world.slots(), [name], "below the limit it stays");
    write_until_kept(&world, 20);
    let stop = ["--max-retained-wal", "20MB"];
    world.stream(&stop).wait().expect(1, &[&kafka.brokers()]);
    assert_eq!(world.slots(), [name], "nobody asked for more than to stop");
    world.stream(&fuse).wait().expect(
        3,
        &["nothing streams from it", "was dropped", "--resnapshot"],
    );
    assert_eq!(world.slots(), [] as [&str; 0]);
}

#[test]
#[ignore = "the stream has to stand still for a minute: make test-long"]
fn a_stream_that_stands_still_past_the_limit_is_stopped_once_and_then_catches_up() {
    let (postgres, kafka) = (server(), Kafka::new());
    let world = world(&postgres, &kafka, "fuse_stop");
    let fuse = ["--max-retained-wal", "40MB"];
    let mut client = world.stream(&fuse);
    client.streams();
    write(&world);
    world.catches_up();

    signal(&kafka, Signal::SIGSTOP);
    write_past_the_limit(&world, &mut client);
    eventually("the client stops by itself", SOON * 2, || {
        check(!client.is_running(), || "it runs".into())
    });
    let ended = client.wait();
    assert_eq!(ended.exit, Exit::Code(1), "{}", ended.stderr);
    for text in [
        "--max-retained-wal",
        "nothing more was acknowledged for",
        "start again",
    ] {
        assert!(
            ended.stderr.contains(text),
            "no {text:?} in {}",
            ended.stderr
        );
    }
    assert_eq!(
        warnings(&ended.stderr),
        2,
        "near and past: {}",
        ended.stderr
    );
    assert_eq!(world.slots(), ["fuse_stop"], "the slot stays");

    // Past the limit still, and moving: it is left alone.
    signal(&kafka, Signal::SIGCONT);
    let mut client = world.stream(&fuse);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}
