//! `make demo` without a terminal: everything it shows is read back, and nothing of it
//! stays, whichever way it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use headwater_tests::keeper::{Folder, Service};
use headwater_tests::wait::{SOON, check, eventually};

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

/// The folders that the demo under `parent` made.
fn folders(parent: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// Runs the demo and fails unless it shows all of this, in this order, and leaves nothing.
#[track_caller]
fn shows(format: &str, all: &[&str]) {
    let parent = Folder::new();
    let shown = Command::new(DEMO)
        .env("TMPDIR", parent.path())
        .env("FORMAT", format)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        shown.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let mut rest = &*text;
    for expected in all {
        let Some(at) = rest.find(expected) else {
            panic!("no {expected:?} in the rest of:\n{text}");
        };
        rest = &rest[at..];
    }
    assert_eq!(folders(parent.path()), [] as [PathBuf; 0]);
}

#[test]
fn shows_the_walkthrough_and_leaves_nothing() {
    shows(
        "json",
        &[
            "create extension headwater",
            "snapshot complete, streaming changes",
            "{\"id\":1}\t{\"id\":1,\"value\":\"hello world!\"}",
            "insert into test",
            "{\"id\":2}\t{\"id\":2,",
            "update test set value = 'modified' where id = 1",
            "{\"id\":1}\t{\"id\":1,\"value\":\"modified\"}",
            "delete from test",
            "{\"id\":1}\tnull",
            "\"op\":\"d\"",
        ],
    );
}

#[test]
fn shows_the_walkthrough_in_avro_with_schemas_in_a_registry() {
    shows(
        "avro",
        &[
            "Apicurio Registry, http://127.0.0.1:",
            "--format avro",
            "snapshot complete, streaming changes",
            "headwater tail",
            "{\"id\":1}\t{\"id\":1,\"value\":{\"string\":\"hello world!\"}}",
            "{\"id\":1}\t{\"id\":1,\"value\":{\"string\":\"modified\"}}",
            "{\"id\":1}\tnull",
            "[\"test-key\", \"test-value\"]",
            "alter table test add column price",
            "\"value\":{\"string\":\"with a price\"},\"price\":{\"bytes\":\"\\u0003\\u00e7\"}}",
            "/subjects/test-value/versions/2/schema",
            "\"op\":\"d\"",
        ],
    );
}

#[test]
fn killed_outright_it_leaves_neither_processes_nor_folders() {
    let parent = Folder::new();
    let mut demo = Service::new(DEMO).env("TMPDIR", parent.path()).start();
    eventually("both servers have their folders", SOON, || {
        let made = folders(parent.path());
        check(made.len() >= 2, || format!("{made:?}"))
    });
    demo.signal(nix::sys::signal::Signal::SIGKILL);
    demo.wait(SOON);
    // With the slash: the folder's own keeper still runs.
    let folder = format!("{}/", parent.path().display());
    eventually("no process and no folder is left", SOON, || {
        let processes = processes_naming(&folder);
        let made = folders(parent.path());
        check(processes.is_empty() && made.is_empty(), || {
            format!("processes {processes:?}, folders {made:?}")
        })
    });
}

/// The command lines of running processes that have `text` in them.
fn processes_naming(text: &str) -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}
