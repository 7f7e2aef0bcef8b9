//! Names in schemas, and why no two things of a database share one.
//!
//! Avro allows `[A-Za-z_][A-Za-z0-9_]*` in a name and dots between the names of a namespace
//! (Avro specification, "Names"). Every byte of a Postgres name that is not allowed where it
//! stands becomes `_xHH_`. An underscore that could be read as the beginning of such an
//! escape is escaped itself, so that reading the escapes back from left to right gives the
//! name again: two names never escape to the same text.
//!
//! The dots of a full name are then the only ones in it, so that its parts can be told apart,
//! and the kinds of names by their number:
//!
//! | name | of |
//! |---|---|
//! | `<schema>.<type>` | a row type, an enum, a range type: one name space in Postgres (`pg_type`) |
//! | `<schema>.<table>.Row`, `.Key`, `.Envelope` | a table |
//! | `<schema>.<array type>.Array`, `.Array_<precision>_<scale>` | an array of other shape than a list |
//! | `headwater.<Name>` | what is the same everywhere |
//!
//! A schema of a database may be called `headwater` too: its first letter is escaped. So is
//! that of a type that has the name of one of Avro's own types, which "may not be defined in
//! any namespace". Escapes of letters that need none are made nowhere else, so
//! both stay injective.

use std::fmt;

/// The namespace of the records that are the same for every database.
const OWN_NAMESPACE: &str = "headwater";

/// Names of Avro's types, which no named type may have: the primitive ones by the
/// specification, the others because libraries look them up first.
const AVRO_TYPES: &[&str] = &[
    "null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "error",
    "enum", "array", "map", "union", "fixed",
];

/// The name of a record or an enum, in Avro's alphabet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FullName {
    namespace: String,
    name: String,
}

impl FullName {
    /// Of the records of a table's rows.
    pub fn row(schema: &str, table: &str) -> Self {
        FullName::within(schema, table, "Row")
    }

    /// Of the records of a table's keys.
    pub fn key(schema: &str, table: &str) -> Self {
        FullName::within(schema, table, "Key")
    }

    /// Of the envelopes of a table's changes.
    pub fn envelope(schema: &str, table: &str) -> Self {
        FullName::within(schema, table, "Envelope")
    }

    /// Of a row type, an enum or a range type, by the names that `pg_type` has.
    pub fn of_type(schema: &str, name: &str) -> Self {
        FullName {
            namespace: escape_schema(schema),
            name: escape_unless(name, AVRO_TYPES.contains(&name)),
        }
    }

    /// Of the arrays of an array type that are no lists, by the names that `pg_type` has for
    /// the array type. Elements that are decimals make a type of their own for each precision
    /// and scale.
    pub fn array(schema: &str, array_type: &str, decimal: Option<super::Decimal>) -> Self {
        let name = match decimal {
            None => "Array".to_owned(),
            Some(decimal) => format!("Array_{}_{}", decimal.precision(), decimal.scale()),
        };
        FullName::within(schema, array_type, &name)
    }

    /// Of what is the same everywhere.
    pub(super) fn own(name: &str) -> Self {
        FullName {
            namespace: OWN_NAMESPACE.to_owned(),
            name: name.to_owned(),
        }
    }

    fn within(schema: &str, relation: &str, name: &str) -> Self {
        FullName {
            namespace: format!("{}.{}", escape_schema(schema), escape(relation)),
            name: name.to_owned(),
        }
    }

    /// What stands before the last dot.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What stands behind the last dot.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// A name of Postgres as a name of Avro: a column's as a field's, a label's as a symbol's.
/// Injective.
pub fn escape(name: &str) -> String {
    escape_unless(name, false)
}

fn escape_schema(schema: &str) -> String {
    escape_unless(schema, schema == OWN_NAMESPACE)
}

/// Escapes the first byte too if it would mean something else.
fn escape_unless(name: &str, has_meaning: bool) -> String {
    let mut escaped = String::with_capacity(name.len());
    if name.is_empty() {
        // No name of Postgres is empty, but a label of an enum may be.
        escaped.push_str("_x_");
    }
    for (index, byte) in name.bytes().enumerate() {
        let stays = match byte {
            b'_' => !reads_as_escape(&name.as_bytes()[index + 1..]),
            b'0'..=b'9' => index > 0,
            _ => byte.is_ascii_alphabetic(),
        } && !(index == 0 && has_meaning);
        if stays {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str("_x");
            for digit in [byte >> 4, byte & 0xF] {
                escaped.extend(char::from_digit(u32::from(digit), 16));
            }
            escaped.push('_');
        }
    }
    escaped
}

/// Whether an underscore before `rest` would begin what looks like an escape: `rest` is `x`,
/// two digits or none, and then an underscore or what becomes one when it is escaped.
fn reads_as_escape(rest: &[u8]) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let begins_escape = |byte: u8| !byte.is_ascii_alphanumeric();
    match rest {
        [b'x', next, ..] if begins_escape(*next) => true,
        [b'x', high, low, next, ..] => is_digit(*high) && is_digit(*low) && begins_escape(*next),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Decimal;
    use super::*;
    use proptest::prelude::*;

    /// Reads escapes back, from left to right.
    fn unescape(text: &str) -> Vec<u8> {
        let mut rest = text.as_bytes();
        let mut name = Vec::new();
        while let Some((first, tail)) = rest.split_first() {
            let digit = |byte: u8| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            };
            match *rest {
                [b'_', b'x', b'_', ref tail @ ..] => rest = tail,
                [b'_', b'x', high, low, b'_', ref tail @ ..]
                    if digit(high).is_some() && digit(low).is_some() =>
                {
                    name.extend(
                        digit(high)
                            .zip(digit(low))
                            .map(|(high, low)| high << 4 | low),
                    );
                    rest = tail;
                }
                _ => {
                    name.push(*first);
                    rest = tail;
                }
            }
        }
        name
    }

    fn is_name(text: &str) -> bool {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && text
                .bytes()
                .next()
                .is_some_and(|byte| !byte.is_ascii_digit())
    }

    #[test]
    fn what_avro_does_not_allow_is_escaped() {
        for (name, expected) in [
            ("orders", "orders"),
            ("Order_lines2", "Order_lines2"),
            ("2nd", "_x32_nd"),
            ("a b.c", "a_x20_b_x2e_c"),
            ("é", "_xc3__xa9_"),
            ("_x20_", "_x5f_x20_"),
            ("_x", "_x"),
            ("_", "_"),
            ("__", "__"),
            ("", "_x_"),
            ("_x_", "_x5f_x_"),
        ] {
            assert_eq!(escape(name), expected, "{name:?}");
        }
    }

    #[test]
    fn names_that_mean_something_to_avro_or_headwater_are_given_to_neither_table_nor_type() {
        assert_eq!(FullName::of_type("s", "string").to_string(), "s._x73_tring");
        assert_eq!(FullName::of_type("s", "strings").to_string(), "s.strings");
        assert_eq!(
            FullName::of_type("headwater", "Interval").to_string(),
            "_x68_eadwater.Interval"
        );
        assert_eq!(FullName::own("Interval").to_string(), "headwater.Interval");
        assert_eq!(FullName::row("long", "int").to_string(), "long.int.Row");
    }

    fn tricky() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[_x2de.]{1,7}",
            1 => prop::sample::select(vec![
                "headwater", "_x68_eadwater", "string", "_x73_tring", "Row", "Key", "Array",
                "Array_1_0", "TimeTz", "_int4",
            ]).prop_map(str::to_owned),
        ]
    }

    proptest! {
        #[test]
        fn an_escaped_name_is_one_of_avro_and_reads_back(name in "([_x250e.fé-]|\\PC){0,20}") {
            let escaped = escape(&name);
            prop_assert!(is_name(&escaped), "{}", escaped);
            prop_assert_eq!(unescape(&escaped), name.as_bytes());
        }

        #[test]
        fn no_two_things_share_a_name(pairs in prop::collection::vec((tricky(), tricky()), 1..12)) {
            let mut owners = HashMap::new();
            for (schema, name) in &pairs {
                let decimal = Decimal::new(1, 0);
                for (kind, full_name) in [
                    ("row", FullName::row(schema, name)),
                    ("key", FullName::key(schema, name)),
                    ("envelope", FullName::envelope(schema, name)),
                    ("type", FullName::of_type(schema, name)),
                    ("array", FullName::array(schema, name, None)),
                    ("array of decimals", FullName::array(schema, name, decimal)),
                ] {
                    let parts = full_name.to_string();
                    prop_assert!(parts.split('.').all(is_name), "{}", parts);
                    prop_assert_ne!(full_name.namespace(), OWN_NAMESPACE);
                    let thing = (kind, schema, name);
                    let owner = *owners.entry(parts.clone()).or_insert(thing);
                    prop_assert_eq!(owner, thing, "{}", parts);
                }
            }
        }
    }
}
