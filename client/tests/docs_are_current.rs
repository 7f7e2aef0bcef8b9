//! The pages that are generated from the code are those that the code would generate. With
//! `HEADWATER_BLESS=1` the tests rewrite them.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use headwater::{config, doctor, error, metrics};

mod man;
mod pages;

#[test]
fn the_reference_of_errors_is_current() {
    assert_current("docs/errors.md", &error::reference());
}

#[test]
fn the_reference_of_settings_is_current() {
    assert_current("docs/configuration.md", &config::reference());
}

#[test]
fn the_example_file_is_current() {
    assert_current("headwater.example.toml", &config::example());
}

#[test]
fn the_reference_of_metrics_is_current() {
    assert_current("docs/metrics.md", &metrics::reference());
}

#[test]
fn the_reference_of_the_doctor_is_current() {
    assert_current("docs/doctor.md", &doctor::reference());
}

#[test]
fn the_manual_is_current() {
    let pages = man::pages();
    for (name, page) in &pages {
        assert_current(&format!("man/{name}"), page);
    }
    let expected: BTreeSet<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    let folder = std::fs::read_dir(workspace().join("man"));
    let folder = folder.unwrap_or_else(|error| panic!("man: {error}"));
    let names: Vec<String> = folder
        .map(|entry| entry.unwrap_or_else(|error| panic!("man: {error}")))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let actual: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(actual, expected, "man/ has pages of commands that are gone");
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn assert_current(name: &str, expected: &str) {
    let page = workspace().join(name);
    if std::env::var_os("HEADWATER_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&page, expected).unwrap_or_else(|error| panic!("{name}: {error}"));
        return;
    }
    let actual = std::fs::read_to_string(&page).unwrap_or_default();
    for (number, (is, ought)) in actual.lines().zip(expected.lines()).enumerate() {
        let number = number + 1;
        assert_eq!(is, ought, "{name}:{number}; HEADWATER_BLESS=1 rewrites it");
    }
    assert_eq!(actual, expected, "{name}; HEADWATER_BLESS=1 rewrites it");
}
