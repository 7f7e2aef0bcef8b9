//! The pictures of the README: of what really ran. `make pictures` makes them anew.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_tests::terminal::CTRL_C;
use headwater_tests::{Client, Kafka, Postgres, Terminal, picture, port};

/// Rows of the table that is copied: some seconds of work.
const ROWS: u32 = 400_000;

/// Writes `docs/pictures/NAME.svg`.
fn save(name: &str, screen: &vt100::Screen, title: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), picture::svg(screen, title)).unwrap();
}

#[test]
#[ignore = "writes docs/pictures"]
fn of_status_and_progress() {
    let (postgres, kafka) = (Postgres::new(), Kafka::new());
    let sql = postgres.database("shop");
    sql.run("alter system set max_slot_wal_keep_size = '2GB'");
    sql.run("select pg_reload_conf()");
    sql.run(&format!(
        "create table orders (id bigint primary key, customer int, state text, total numeric(10,2), \
                              note text, at timestamptz default now());
         create table customers (id int primary key, name text, mail text);
         insert into orders select n, n % 1000, 'open', n / 7.0, repeat('x', 40) \
           from generate_series(1, {ROWS}) n;
         insert into customers select n, 'name ' || n, n || '@shop.example' from generate_series(1, 1000) n"
    ));
    sql.run("analyze");
    // Short names, as a user has them.
    let conninfo = postgres.conninfo("shop");
    let brokers = kafka.brokers();
    let metrics = format!("127.0.0.1:{}", port::free());
    let connections = ["-d", &conninfo, "-b", &brokers];
    let stream = [&["stream"], &connections[..], &["--metrics", &metrics]].concat();
    // The log has lines of more than 80 columns.
    let mut terminal = Terminal::sized(24, 110, stream);
    let screen = terminal.shows("half of the snapshot", |screen| {
        screen.contents().contains("██████░")
    });
    save(
        "progress.svg",
        &screen,
        "headwater stream: a bar below the log, a third of a snapshot is done",
    );
    terminal.shows_text("streaming slot=headwater");

    sql.run("alter table customers rename mail to email");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let session = postgres.session("shop");
            let mut next = ROWS;
            while !done.load(Ordering::Relaxed) {
                session.run(&format!(
                    "insert into orders select n, 7, 'new', 1, 'y' from generate_series({}, {}) n",
                    next + 1,
                    next + 200
                ));
                next += 200;
            }
        });
        Client::run(
            [
                &["snapshot"],
                &connections[..],
                &["-t", "orders", "--no-wait"],
            ]
            .concat(),
        )
        .expect(0, &[]);
        let status = [
            &["status"],
            &connections[..],
            &["--metrics", &metrics, "--watch", "1"],
        ];
        let mut status = Terminal::start(status.concat());
        let screen = status.shows("the copy under way", |screen| {
            let text = screen.contents();
            text.contains("is stale since")
                && text.contains("records/s")
                && text.contains("████░")
                && text.contains(" left")
        });
        save(
            "status.svg",
            &screen,
            "headwater status --watch: a stream, its lag, a copy under way, a stale table and its cure",
        );
        status.types(CTRL_C);
        status.ends();
        done.store(true, Ordering::Relaxed);
    });
    terminal.types(CTRL_C);
    terminal.ends();
}
