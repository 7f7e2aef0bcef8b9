//! Names in sentences.

/// At most so many are spelled out in one sentence. What mends them is always whole.
const NAMED: usize = 5;

/// The first names, and how many more there are.
pub(super) fn some_of(names: &[String]) -> String {
    let named = names.iter().take(NAMED).cloned();
    let mut words: Vec<String> = named.collect();
    if names.len() > NAMED {
        words.push(format!("and {} more", names.len() - NAMED));
    }
    words.join(", ")
}

/// A number with what it counts.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_counted() {
        let names: Vec<String> = (1..=7).map(|n| format!("t{n}")).collect();
        assert_eq!(some_of(&names[..2]), "t1, t2");
        assert_eq!(some_of(&names), "t1, t2, t3, t4, t5, and 2 more");
        assert_eq!(count(1, "table", "tables"), "1 table");
        assert_eq!(count(0, "table", "tables"), "0 tables");
    }
}
