//! `headwater status`: what it says of streams, from the outside, and how it looks on a terminal.

use headwater_tests::client::Ended;
use headwater_tests::keeper::Exit;
use headwater_tests::terminal::{COLUMNS, CTRL_C};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Terminal};
use serde_json::Value;

use crate::world::World;

impl World<'_> {
    /// The arguments of `headwater status` of the world's stream.
    fn status_arguments(&self, more: &[&str]) -> Vec<String> {
        let mut arguments = self.arguments(more);
        arguments[0] = "status".to_owned();
        arguments
    }

    /// Runs `headwater status` to its end.
    #[track_caller]
    fn status(&self, more: &[&str]) -> Ended {
        Client::run(self.status_arguments(more))
    }

    /// What `headwater status --json` prints, and the exit code.
    #[track_caller]
    fn status_json(&self, more: &[&str]) -> (Value, Exit) {
        let ended = self.status(&[&["--json"], more].concat());
        let report = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|e| panic!("{e} in {:?}; stderr:\n{}", ended.stdout, ended.stderr));
        (report, ended.exit)
    }

    /// The same, once it is as `holds` wants it.
    #[track_caller]
    fn status_until(&self, more: &[&str], holds: impl Fn(&Value) -> bool) -> (Value, Exit) {
        eventually("the status", SOON, || {
            let (report, exit) = self.status_json(more);
            check(holds(&report), || report.to_string())?;
            Ok::<_, String>((report, exit))
        })
    }
}

fn levels(report: &Value) -> Vec<&str> {
    let troubles = report["troubles"].as_array().unwrap().iter();
    troubles.map(|it| it["level"].as_str().unwrap()).collect()
}

fn rows(screen: &vt100::Screen) -> Vec<String> {
    screen.rows(0, COLUMNS).collect()
}

#[test]
fn a_status_is_redrawn_in_place_until_ctrl_c() {
    let world = World::new("status_watch");
    world.sql.run(
        "create table t (id int primary key, n int); insert into t values (1, 1);
         create table u (id int primary key)",
    );
    let mut client = world.stream(&[]);
    client.streams();
    let mut terminal = Terminal::start(world.status_arguments(&["--watch", "0.5"]));
    let screen = terminal.shows("all is well", |screen| {
        let text = screen.contents();
        text.contains("all is well") && text.contains("1 stream on record")
    });
    assert!(screen.alternate_screen(), "what was there before stays");
    assert!(screen.hide_cursor());
    let first = rows(&screen);
    assert!(first[0].starts_with("headwater status, "), "{first:#?}");
    let place = first
        .iter()
        .position(|row| row.starts_with("SLOT"))
        .unwrap();
    let row = &first[place + 1];
    assert!(
        row.starts_with("status_watch  status_watch  streaming"),
        "{row}"
    );

    // The same place, while the lines below change.
    world.sql.run("alter table t rename n to m");
    let screen = terminal.shows_text("is stale since");
    let next = rows(&screen);
    assert!(next[0].starts_with("headwater status, "), "{next:#?}");
    assert!(next[place].starts_with("SLOT"), "{next:#?}");
    let headings = next.iter().filter(|row| row.starts_with("SLOT")).count();
    assert_eq!(headings, 1, "{next:#?}");
    assert!(!screen.contents().contains("all is well"), "{next:#?}");

    terminal.types(CTRL_C);
    let (exit, screen) = terminal.ends();
    assert_eq!(exit, Exit::Code(0));
    assert!(!screen.alternate_screen() && !screen.hide_cursor());
    let left = screen.contents();
    assert!(
        left.contains("is stale since"),
        "the last report stays: {left}"
    );

    // What it names as the cure is one.
    let (report, _) = world.status_json(&[]);
    let cure = report["streams"][0]["stale"][0]["cure"].as_str().unwrap();
    let mut words: Vec<&str> = cure.split(' ').collect();
    assert_eq!(words.remove(0), "headwater");
    let database = words.iter().position(|word| *word == "-d").unwrap();
    let conninfo = world.postgres.conninfo(words[database + 1]);
    words[database + 1] = &conninfo;
    Client::run(words).expect(0, &["copied: the topics are what the tables hold"]);
    let (report, exit) = world.status_until(&[], |report| levels(report).is_empty());
    assert_eq!(report["level"], "ok");
    assert_eq!(exit, Exit::Code(0));
    client.terminate().expect(0, &[]);
}
