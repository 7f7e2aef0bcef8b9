//! What is promised is what is tested: the page of guarantees names a test for each row.

use std::collections::BTreeSet;

use headwater_tests::installation::workspace;

/// Names in backquotes of the form `module::test`.
fn named(page: &str) -> BTreeSet<(&str, &str)> {
    let is_word = |text: &str| {
        let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        !text.is_empty() && text.chars().all(word)
    };
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .filter(|(module, test)| is_word(module) && is_word(test))
        .collect()
}

#[test]
fn every_test_that_the_page_names_exists() {
    let page = std::fs::read_to_string(workspace().join("docs/guarantees.md")).unwrap();
    let named = named(&page);
    assert!(named.len() > 50, "the page names {} tests", named.len());
    let missing: Vec<String> = named
        .into_iter()
        .filter(|(module, test)| {
            let file = workspace().join(format!("tests/e2e/{module}.rs"));
            let source = std::fs::read_to_string(file).unwrap_or_default();
            !source.contains(&format!("fn {test}()"))
        })
        .map(|(module, test)| format!("{module}::{test}"))
        .collect();
    assert_eq!(missing, [] as [&str; 0]);
}
