//! What `test_decoding` prints:
//!
//! ```text
//! BEGIN 745
//! table s.orders: UPDATE: old-key: id[bigint]:1 new-tuple: id[bigint]:2 title[text]:'it''s'
//! table s.copied, s.drafts: TRUNCATE: (no-flags)
//! COMMIT 745
//! ```

use super::change::{Change, Tuple};

/// The changes of all lines.
pub(super) fn changes(lines: &[String]) -> Vec<Change> {
    let mut xid = 0;
    let mut changes = Vec::new();
    for line in lines {
        if let Some(begun) = line.strip_prefix("BEGIN ") {
            xid = begun.parse().unwrap();
        } else if let Some(change) = line.strip_prefix("table ") {
            read(xid, change, &mut changes);
        }
    }
    changes
}

fn read(xid: u64, line: &str, changes: &mut Vec<Change>) {
    // No name in the test's schema has a colon.
    let (tables, rest) = line.split_once(": ").unwrap();
    let (operation, rest) = rest.split_once(": ").unwrap();
    let table = |qualified: &str| qualified.split_once('.').unwrap().1.to_owned();
    let change = match operation {
        "TRUNCATE" => {
            let truncated = tables.split(", ");
            return changes
                .extend(truncated.map(|one| Change::new(xid, &table(one), 't', None, None)));
        }
        "INSERT" => ('c', None, tuple(rest)),
        "UPDATE" => match rest.strip_prefix("old-key: ") {
            Some(rest) => {
                let mut reader = Reader(rest);
                let old = reader.columns();
                let new = reader.0.strip_prefix("new-tuple: ").unwrap();
                ('u', Some(old), tuple(new))
            }
            None => ('u', None, tuple(rest)),
        },
        "DELETE" => ('d', tuple(rest), None),
        other => panic!("test_decoding's {other}"),
    };
    let (op, old, new) = change;
    changes.push(Change::new(xid, &table(tables), op, old, new));
}

fn tuple(text: &str) -> Option<Tuple> {
    (text != "(no-tuple-data)").then(|| {
        let mut reader = Reader(text);
        let columns = reader.columns();
        assert_eq!(reader.0, "", "in {text}");
        columns
    })
}

/// What is still to be read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// `name[type]:value`, separated by blanks, up to the end or `new-tuple:`.
    fn columns(&mut self) -> Tuple {
        let mut columns = Tuple::new();
        while !self.0.is_empty() && !self.0.starts_with("new-tuple: ") {
            let name = if self.0.starts_with('"') {
                self.quoted('"')
            } else {
                self.until("[").to_owned()
            };
            self.until("]:");
            match self.value() {
                Value::Is(value) => drop(columns.insert(name, value)),
                Value::Unchanged => {}
            }
            self.0 = self.0.strip_prefix(' ').unwrap_or(self.0);
        }
        columns
    }

    fn value(&mut self) -> Value {
        if self.0.starts_with('\'') {
            return Value::Is(Some(self.quoted('\'')));
        }
        if self.0.starts_with("B'") {
            self.0 = &self.0[1..];
            return Value::Is(Some(self.quoted('\'')));
        }
        let end = self.0.find(' ').unwrap_or(self.0.len());
        let (plain, rest) = self.0.split_at(end);
        self.0 = rest;
        match plain {
            "null" => Value::Is(None),
            "unchanged-toast-datum" => Value::Unchanged,
            _ => Value::Is(Some(plain.to_owned())),
        }
    }

    /// A text between quotes, which are doubled inside.
    fn quoted(&mut self, quote: char) -> String {
        let mut text = String::new();
        loop {
            self.0 = &self.0[1..];
            text.push_str(self.until_char(quote));
            if !self.0.starts_with(quote) {
                return text;
            }
            text.push(quote);
        }
    }

    fn until_char(&mut self, end: char) -> &'a str {
        let at = self.0.find(end).unwrap();
        let before = &self.0[..at];
        self.0 = &self.0[at + 1..];
        before
    }

    /// What stands before `end`, which is passed.
    fn until(&mut self, end: &str) -> &'a str {
        let (before, rest) = self.0.split_once(end).unwrap();
        self.0 = rest;
        before
    }
}

enum Value {
    Is(Option<String>),
    Unchanged,
}
