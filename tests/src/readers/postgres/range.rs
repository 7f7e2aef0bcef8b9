//! Range and multirange literals.

/// What a range's text says.
#[derive(Debug, Default)]
pub(super) struct Range {
    pub(super) is_empty: bool,
    pub(super) lower: Option<String>,
    pub(super) upper: Option<String>,
    pub(super) lower_inclusive: bool,
    pub(super) upper_inclusive: bool,
}

/// Reads `[lower,upper)`.
pub(super) fn parsed(text: &str) -> Result<Range, String> {
    if text == "empty" {
        return Ok(Range {
            is_empty: true,
            ..Range::default()
        });
    }
    let mut parser = Parser {
        rest: text.chars().collect(),
        at: 0,
    };
    let lower_inclusive = parser.next() == Some('[');
    let (lower, comma) = parser.bound();
    let (upper, end) = parser.bound();
    if comma != Some(',') || !matches!(end, Some(')' | ']')) || parser.next().is_some() {
        return Err(format!("no range: {text}"));
    }
    Ok(Range {
        is_empty: false,
        lower,
        upper,
        lower_inclusive,
        upper_inclusive: end == Some(']'),
    })
}

/// The ranges of `{[1,2),[3,4)}`.
pub(super) fn members(text: &str) -> Result<Vec<String>, String> {
    let within = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    let Some(within) = within else {
        return Err(format!("no multirange: {text}"));
    };
    let mut parser = Parser {
        rest: within.chars().collect(),
        at: 0,
    };
    let mut ranges = Vec::new();
    while let Some(begin) = parser.next() {
        if begin == ',' {
            continue;
        }
        let from = parser.at - 1;
        parser.bound();
        parser.bound();
        ranges.push(parser.rest[from..parser.at].iter().collect());
    }
    Ok(ranges)
}

struct Parser {
    rest: Vec<char>,
    at: usize,
}

impl Parser {
    fn next(&mut self) -> Option<char> {
        let found = self.rest.get(self.at).copied();
        self.at += usize::from(found.is_some());
        found
    }

    /// A bound, none where there is no end, and the character behind it. A quote within quotes
    /// is doubled; a backslash takes the next character as it is.
    fn bound(&mut self) -> (Option<String>, Option<char>) {
        let mut bound = None;
        let mut is_quoted = false;
        loop {
            let Some(next) = self.next() else {
                return (bound, None);
            };
            match next {
                '"' if is_quoted && self.rest.get(self.at) == Some(&'"') => {
                    self.at += 1;
                    bound.get_or_insert_with(String::new).push('"');
                }
                '"' => {
                    is_quoted = !is_quoted;
                    bound.get_or_insert_with(String::new);
                }
                '\\' => bound.get_or_insert_with(String::new).extend(self.next()),
                ',' | ')' | ']' if !is_quoted => return (bound, Some(next)),
                _ => bound.get_or_insert_with(String::new).push(next),
            }
        }
    }
}
