//! Names in sentences.

use crate::terminal;

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

/// As [`terminal::counted`], of what there is in memory.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    terminal::counted(number as u64, one, many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_counted() {
        let names: Vec<String> = (1..=7).map(|n| format!("t{n}")).collect();
        assert_eq!(some_of(&names[..2]), "t1, t2");
        assert_eq!(some_of(&names), "t1, t2, t3, t4, t5, and 2 more");
    }
}
