//! Writers: transactions of every shape, at random but from a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use headwater_tests::Random;
use headwater_tests::session::{Session, SqlError};

/// The tables that [`transaction`] writes to, each with its key as a list of columns:
/// one integer, a pair with text, and a table whose rows are identified in full.
pub(crate) const TABLES: [(&str, &str); 3] = [
    ("orders", "t.id"),
    ("lines", "t.item, t.n"),
    ("notes", "t.id"),
];

/// Keys are drawn from so few that changes of one key meet often.
const KEYS: u64 = 5_000;

/// Makes the tables of [`TABLES`] with `rows` rows each.
pub(crate) fn create_tables(sql: &Session, rows: u64) {
    sql.run(&format!(
        "create table orders (id bigint primary key, qty int, title text, price numeric(12,2), at timestamptz default clock_timestamp());
         create table lines (item text, n int, qty int, primary key (item, n));
         create table notes (id bigint primary key, body text, done boolean default false);
         alter table notes replica identity full;
         insert into orders select n, n % 100, 'order ' || n, n / 7.0 from generate_series(1, {rows}) n;
         insert into lines select 'item ' || n % 1000, n / 1000, n from generate_series(0, {rows} - 1) n;
         insert into notes select n, 'note ' || n from generate_series(1, {rows}) n"
    ));
}

/// One transaction of 1 to 40 changes: inserts, updates, key changes, deletes, several
/// rows at once, savepoints that are kept or rolled back, now and then a rollback of all.
pub(crate) fn transaction(random: &mut Random) -> String {
    let mut sql = String::from("begin;\n");
    let changes = 1 + random.below(6) * random.below(8);
    for _ in 0..changes {
        match random.below(12) {
            0 => {
                let kept = random.below(2) == 0;
                let end = if kept { "release s" } else { "rollback to s" };
                let (first, second) = (change(random), change(random));
                sql.push_str(&format!("savepoint s;\n{first};\n{second};\n{end};\n"));
            }
            _ => sql.push_str(&format!("{};\n", change(random))),
        }
    }
    sql.push_str(if random.below(15) == 0 {
        "rollback"
    } else {
        "commit"
    });
    sql
}

fn change(random: &mut Random) -> String {
    let (a, b, v) = (
        1 + random.below(KEYS),
        1 + random.below(KEYS),
        random.below(1_000_000),
    );
    let (item, n, other) = (a % 500, b % 8, v % 8);
    match random.below(16) {
        0..3 => format!(
            "insert into orders values ({a}, {v}, 'order {v}', {v} / 7.0) \
             on conflict (id) do update set qty = excluded.qty, title = excluded.title"
        ),
        3..5 => format!("update orders set qty = {v}, price = price + 1 where id = {a}"),
        5 => format!(
            "update orders set id = {b} where id = {a} and not exists (select from orders where id = {b})"
        ),
        6 => format!("delete from orders where id = {a}"),
        7 => format!("update orders set qty = qty + 1 where id between {a} and {a} + {n}"),
        8 => format!("insert into lines values ('item {item}', {n}, {v}) on conflict do nothing"),
        9 => format!("update lines set qty = {v} where item = 'item {item}'"),
        10 => format!(
            "update lines set n = {other} where item = 'item {item}' and n = {n} \
             and not exists (select from lines where item = 'item {item}' and n = {other})"
        ),
        11 => format!("delete from lines where item = 'item {item}' and n = {n}"),
        12..14 => format!(
            "insert into notes values ({a}, 'note {v}') on conflict (id) do update set done = not notes.done"
        ),
        14 => format!(
            "update notes set id = {b}, body = 'moved {v}' where id = {a} and not exists (select from notes where id = {b})"
        ),
        _ => format!("delete from notes where id = {a}"),
    }
}

/// Whether a statement failed as concurrent writers make statements fail: the
/// transaction is over, and another one is as good.
pub(crate) fn is_a_conflict(error: &SqlError) -> bool {
    // Unique violation, serialization failure, deadlock.
    ["23505", "40001", "40P01"].contains(&error.state.as_str())
}

/// Threads that write until they are dropped or told to stop. They survive the server's
/// restarts.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    /// Starts `count` writers, each in sessions of its own.
    pub(crate) fn start(
        count: usize,
        random: &mut Random,
        connect: impl Fn() -> Result<Session, SqlError> + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|_| {
                let (stop, connect, mut random) =
                    (Arc::clone(&stop), connect.clone(), random.fork());
                std::thread::spawn(move || {
                    let mut session = None;
                    let mut written = 0;
                    while !stop.load(Ordering::Relaxed) {
                        written += write(&mut session, &connect, &mut random);
                    }
                    written
                })
            })
            .collect();
        Writers { stop, threads }
    }

    /// Stops them and returns how many transactions they committed.
    pub(crate) fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .map(|thread| thread.join().unwrap())
            .sum()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One transaction; returns how many that made.
fn write(
    session: &mut Option<Session>,
    connect: &impl Fn() -> Result<Session, SqlError>,
    random: &mut Random,
) -> u64 {
    let Some(open) = session else {
        // The server is restarting: it comes back, or the test's deadline passes.
        *session = connect().ok();
        return 0;
    };
    match open.attempt(&transaction(random)) {
        Ok(_) => return 1,
        Err(e) if is_a_conflict(&e) => open.run("rollback"),
        // Killed with the server, with every other backend of it.
        Err(e) if e.state.is_empty() || e.state.starts_with("57P") || e.state.starts_with("08") => {
            *session = None;
        }
        Err(e) => panic!("a writer's transaction failed: {e}"),
    }
    0
}
