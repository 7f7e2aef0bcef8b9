//! Table patterns: a list in the first line, a schema and a table in the two behind it.

use headwater_protocol::table_pattern::TablePatterns;

/// What is read prints as something that reads and matches the same, and a list that
/// matches nothing is one whose patterns match nothing.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut lines = text.split('\n');
    let list = lines.next().unwrap_or_default();
    let (schema, table) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let Ok(patterns) = TablePatterns::parse(list) else {
        return;
    };
    let printed = patterns.to_string();
    assert_eq!(
        TablePatterns::parse(&printed).as_ref(),
        Ok(&patterns),
        "{list:?} is printed as {printed:?}"
    );
    let by_one = patterns
        .iter()
        .any(|pattern| pattern.matches(schema, table));
    assert_eq!(patterns.matches(schema, table), by_one);
}
