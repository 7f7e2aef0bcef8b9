//! `headwater verify` of a large table under load: the time it takes, and the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_tests::client::Ended;
use headwater_tests::postgres::Options;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, MemoryWatch, Random, Session, topic};

use crate::world::{World, kafka};

/// Rows of the table.
const ROWS: u64 = 5_000_000;

/// Bytes by which the process may grow.
const BOUND: u64 = 192 << 20;

/// As long as a snapshot or a comparison of the table may take on a slow machine.
const LONG: Duration = Duration::from_secs(20 * SOON.as_secs());

#[test]
#[ignore = "five million rows take their time: make test-verify"]
fn five_million_rows_under_load_are_compared_in_bounded_memory() {
    let server = Options::default().setting("max_wal_size", "8GB").start();
    let world = World::on(&server, kafka(), "verify_large");
    world.sql.run(&format!(
        "create table items (id bigint primary key, name text, qty int, price numeric(12,2), at timestamptz);
         insert into items select n, 'item ' || n, n % 1000, n / 7.0, now() from generate_series(1, {ROWS}) n;
         analyze items"
    ));
    let mut client = world.stream(&["--topic-partitions", "4"]);
    eventually("the snapshot ends", LONG, || {
        assert!(client.is_running(), "the client has ended");
        check(client.stderr().contains("streaming slot="), || {
            "not yet".to_owned()
        })
    });
    let load = Load::start(&world);

    let (verified, _) = timed(&world, "equal", &[]);
    verified.expect(0, &[]);
    assert!(verified.stdout.contains(": equal"), "{}", verified.stdout);

    // Behind the rows that the load writes to.
    let items = world.topic("items");
    let (altered, dropped, ghost) = (ROWS - 1, ROWS - 2, ROWS + 1);
    let other = format!("{{\"id\":{altered},\"name\":\"somebody else's\"}}");
    topic::write(world.kafka, &items, format!("{{\"id\":{altered}}}"), &other);
    topic::bury(world.kafka, &items, format!("{{\"id\":{dropped}}}"));
    topic::write(
        world.kafka,
        &items,
        format!("{{\"id\":{ghost}}}"),
        "{\"id\":0}",
    );
    let (verified, grown) = timed(&world, "three keys differ", &[]);
    verified.expect(1, &["3 keys differ"]);
    for line in [
        format!("  different {{\"id\":{altered}}}"),
        format!("  missing {{\"id\":{dropped}}}"),
        format!("  extra {{\"id\":{ghost}}}"),
    ] {
        assert!(verified.stdout.contains(&line), "{}", verified.stdout);
    }
    let (repaired, _) = timed(&world, "repaired", &["--repair"]);
    repaired.expect(0, &[]);
    assert!(
        repaired.stdout.contains("equal, 3 sent again"),
        "{}",
        repaired.stdout
    );
    println!("verify: {} transactions of the load meanwhile", load.stop());
    client.terminate().expect(0, &[]);
    assert!(grown < BOUND, "grew by {} MiB", grown >> 20);
}

/// Runs `headwater verify`, and returns by how many bytes it grew.
fn timed(world: &World<'_>, what: &str, more: &[&str]) -> (Ended, u64) {
    let start = Instant::now();
    let mut arguments = world.arguments(more);
    arguments[0] = "verify".to_owned();
    let mut client = Client::start(arguments);
    let watch = MemoryWatch::of(client.pid());
    eventually("verify ends", LONG, || {
        check(!client.is_running(), || "it runs".to_owned())
    });
    let ended = client.wait();
    let grown = watch.growth();
    println!(
        "verify: {what}: {ROWS} rows in {} s, grew by {} MiB\n{}{}",
        start.elapsed().as_secs(),
        grown >> 20,
        ended.stdout,
        ended.stderr
    );
    (ended, grown)
}

/// One session that updates, deletes and inserts until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Load {
    fn start(world: &World<'_>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let conninfo = world.postgres.conninfo(&world.name);
        let name = world.name.clone();
        let mut random = Random::from_environment("verify under load");
        let thread = std::thread::spawn(move || {
            let session = Session::connect(&conninfo).unwrap();
            session.run(&format!("set search_path = {name}"));
            let mut written = 0;
            while !stopped.load(Ordering::Relaxed) {
                let (id, other) = (1 + random.below(ROWS - 10_000), random.below(1_000_000_000));
                let new = ROWS + 1_000 + other;
                session.run(&format!(
                    "update items set qty = qty + 1 where id between {id} and {id} + 20;
                     delete from items where id = {id} + 30;
                     insert into items values ({new}, 'new', 1, 1, now()) on conflict do nothing"
                ));
                written += 1;
            }
            written
        });
        Load { stop, thread }
    }

    /// Stops it and returns how many transactions it made.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
