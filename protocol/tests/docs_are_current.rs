//! The pages that are generated from the code are those that the code would generate.
//! With `HEADWATER_BLESS=1` the tests rewrite them.

#![allow(missing_docs)]

mod vectors;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use headwater_protocol::{options, type_map};

#[test]
fn the_reference_of_the_plugins_options_is_current() {
    check("plugin-options.md", &options::reference());
}

#[test]
fn the_type_map_is_current() {
    check("type-map.md", &type_map::reference());
}

#[test]
fn the_frame_protocol_shows_the_test_vectors() {
    let mut page = read("frame-protocol.md");
    for vector in vectors::load() {
        let begin = format!("<!-- vector: {} -->\n", vector.name);
        let (before, rest) = page
            .split_once(&begin)
            .unwrap_or_else(|| panic!("docs/frame-protocol.md has no {begin}"));
        let (_, after) = rest
            .split_once("<!-- end -->")
            .unwrap_or_else(|| panic!("no <!-- end --> follows {begin}"));
        page = format!(
            "{before}{begin}```text\n{}```\n<!-- end -->{after}",
            vector.text
        );
    }
    check("frame-protocol.md", &page);
}

/// The reader that the page prints, given the vectors as `pg_recvlogical` would write them,
/// each followed by a newline, prints what the page says.
#[test]
fn the_reader_in_the_frame_protocol_reads_the_test_vectors() {
    let page = read("frame-protocol.md");
    let program = fenced(&page, "python");
    let expected = fenced(page.split(program).nth(1).unwrap_or_default(), "text");
    let mut python = match Command::new("python3")
        .args(["-X", "utf8", "-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(python) => python,
        Err(error) => return eprintln!("skipped: python3: {error}"),
    };
    let stream: Vec<u8> = vectors::load()
        .iter()
        .flat_map(|vector| [vector.bytes(), b"\n".to_vec()].concat())
        .collect();
    // Dropping stdin closes it.
    let written = python
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(&stream));
    let output = python
        .wait_with_output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&output), expected);
    assert!(matches!(written, Some(Ok(()))), "{written:?}");
}

/// The first block of `language` in a page.
fn fenced<'p>(page: &'p str, language: &str) -> &'p str {
    page.split_once(&format!("```{language}\n"))
        .and_then(|(_, rest)| rest.split_once("```"))
        .map_or_else(|| panic!("no block of {language}"), |(block, _)| block)
}

fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(page(name)).unwrap_or_default()
}

fn check(name: &str, expected: &str) {
    if std::env::var_os("HEADWATER_BLESS").is_some_and(|value| value == "1") {
        fs::write(page(name), expected).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
        return;
    }
    let actual = read(name);
    if actual != expected {
        panic!(
            "docs/{name} is not current; HEADWATER_BLESS=1 rewrites it:\n{}",
            differences(&actual, expected)
        );
    }
}

/// The lines between what both begin with and what both end with.
fn differences(actual: &str, expected: &str) -> String {
    let (actual, expected): (Vec<_>, Vec<_>) =
        (actual.split('\n').collect(), expected.split('\n').collect());
    let shorter = actual.len().min(expected.len());
    let same = |&index: &usize| actual[index] == expected[index];
    let head = (0..shorter).take_while(same).count();
    let same_from_end =
        |&back: &usize| actual[actual.len() - back] == expected[expected.len() - back];
    let tail = (1..=shorter - head).take_while(same_from_end).count();
    let mut text = String::new();
    for (mark, lines) in [('-', &actual), ('+', &expected)] {
        for line in &lines[head..lines.len() - tail] {
            let _ = writeln!(text, "{mark} {line}");
        }
    }
    text
}
