//! `headwater doctor`: what it prints is run as it is printed, and mends what it names.

mod acls;
mod first_run;
mod installed;
mod kafka;
pub(crate) mod printed;
mod role;
mod server;
mod tables;
mod wal;

use headwater_tests::installation::workspace;

/// Checks that complain of nothing here, and why.
const UNBROKEN: [(&str, &str); 3] = [
    ("version", "servers before 14 are not at hand"),
    (
        "replication_login",
        "who is let in is let in here, too, unless by a pooler",
    ),
    ("types", "it says what is, and complains of nothing"),
];

/// The tests say which check complains, and how badly: `"keys", "fail"`.
const TESTS: [&str; 8] = [
    include_str!("acls.rs"),
    include_str!("first_run.rs"),
    include_str!("installed.rs"),
    include_str!("kafka.rs"),
    include_str!("role.rs"),
    include_str!("server.rs"),
    include_str!("tables.rs"),
    include_str!("wal.rs"),
];

/// The checks that `docs/doctor.md` lists, which is made of their table.
fn documented() -> Vec<String> {
    let page = std::fs::read_to_string(workspace().join("docs/doctor.md")).unwrap();
    let (_, checks) = page.split_once("\n## Checks\n").unwrap();
    let rows = checks.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect()
}

#[test]
fn each_check_is_broken_by_a_test() {
    let checks = documented();
    assert!(checks.len() > 30, "{checks:?}");
    let tests: String = TESTS.concat().split_whitespace().collect();
    let is_broken = |id: &str| {
        let mut severities = ["fail", "warning"].iter();
        severities.any(|severity| tests.contains(&format!("\"{id}\",\"{severity}\"")))
    };
    for id in checks {
        let is_excused = UNBROKEN.iter().any(|(excused, _)| *excused == id);
        assert_ne!(is_broken(&id), is_excused, "{id}");
    }
}
