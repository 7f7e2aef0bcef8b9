//! The page that is generated from the code is the one that the code would generate. With
//! `HEADWATER_BLESS=1` the test rewrites it.

#![allow(missing_docs)]

use std::path::PathBuf;

use headwater::error::reference;

#[test]
fn the_reference_of_errors_is_current() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let expected = reference();
    if std::env::var_os("HEADWATER_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&page, expected).unwrap_or_else(|error| panic!("docs/errors.md: {error}"));
        return;
    }
    let actual = std::fs::read_to_string(&page).unwrap_or_default();
    for (number, (is, ought)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(
            is,
            ought,
            "docs/errors.md:{}; HEADWATER_BLESS=1 rewrites it",
            number + 1
        );
    }
    assert_eq!(
        actual, expected,
        "docs/errors.md; HEADWATER_BLESS=1 rewrites it"
    );
}
