//! Where results go: JSON for machines, a table in `docs/performance.md` for people.

use std::path::PathBuf;

use headwater_tests::installation::workspace;
use serde::Serialize;

/// Writes `bench/results/NAME.json`.
///
/// # Panics
///
/// If it cannot be written.
pub(crate) fn json(name: &str, result: &impl Serialize) {
    let file = workspace().join(format!("bench/results/{name}.json"));
    let mut text = serde_json::to_string_pretty(result)
        .unwrap_or_else(|e| panic!("cannot print the result of {name}: {e}"));
    text.push('\n');
    write(&file, &text);
}

/// Puts `markdown` between the marks of `name` in `docs/performance.md`.
///
/// # Panics
///
/// If the page or the marks are not there.
pub(crate) fn page(name: &str, markdown: &str) {
    let file = workspace().join("docs/performance.md");
    let page = std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
    let (begin, end) = (format!("<!-- bench: {name} -->\n"), "<!-- end -->");
    let parts = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        panic!("{} has no {begin}…{end}", file.display());
    };
    write(&file, &format!("{before}{begin}{markdown}{end}{after}"));
}

fn write(file: &PathBuf, text: &str) {
    if let Some(folder) = file.parent() {
        let _exists = std::fs::create_dir_all(folder);
    }
    std::fs::write(file, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
    println!("written: {}", file.display());
}

/// A Markdown table.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let rule: Vec<String> = header.iter().map(|_| "---".to_owned()).collect();
    let rows = rows.iter().map(|row| line(row));
    line(&header) + &line(&rule) + &rows.collect::<String>()
}
