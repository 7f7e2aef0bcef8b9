//! Which topic a table's records go to.
//!
//! A topic's name is a prefix and a template filled with the names of schema and
//! table, `{schema}.{table}` as a rule; the schema `public` and the dot behind it are
//! left out.
//!
//! # Why no two tables can share a topic unseen
//!
//! Names are escaped ([`headwater_protocol::topic`]) so that two never become the same text.
//! The dot of the template is then the only one in it, so the pair of names is found again as
//! well.
//!
//! What is left can collide and is found by looking: names that Kafka cuts or folds
//! (it takes `.` and `_` for one in the names of its metrics and refuses a second
//! topic), templates that leave the schema out, the topic of logical messages, a topic
//! that the cluster or Headwater keeps for itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use headwater_protocol::topic::{MAX_NAME_BYTES, escape, is_legal, shorten};

use crate::error::Error;
use crate::kafka::is_name;

/// Topics that belong to Kafka or to Headwater itself.
const RESERVED: [&str; 3] = [
    "__headwater.state",
    "__consumer_offsets",
    "__transaction_state",
];

/// A topic's name with places for the names of schema and table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Schema,
    Table,
}

impl Template {
    /// The template where none is given.
    pub const DEFAULT: &str = "{schema}.{table}";

    /// Reads a template: `{schema}`, `{table}` and characters that Kafka allows.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(start);
            push_literal(&mut pieces, literal)?;
            let (placeholder, tail) = if let Some(tail) = tail.strip_prefix("{schema}") {
                (Piece::Schema, tail)
            } else if let Some(tail) = tail.strip_prefix("{table}") {
                (Piece::Table, tail)
            } else {
                return Err(TemplateError::Placeholder(tail.to_owned()));
            };
            pieces.push(placeholder);
            rest = tail;
        }
        push_literal(&mut pieces, rest)?;
        if pieces.contains(&Piece::Table) {
            Ok(Template { pieces })
        } else {
            Err(TemplateError::NoTable)
        }
    }

    fn fill(&self, schema: &str, table: &str) -> String {
        let mut name = String::new();
        let mut leave_out_dot = false;
        for piece in &self.pieces {
            match piece {
                Piece::Schema if schema == "public" => {
                    leave_out_dot = true;
                    continue;
                }
                Piece::Schema => escape(schema, &mut name),
                Piece::Table => escape(table, &mut name),
                Piece::Literal(text) => {
                    let text = match text.strip_prefix('.') {
                        Some(rest) if leave_out_dot => rest,
                        _ => text,
                    };
                    name.push_str(text);
                }
            }
            leave_out_dot = false;
        }
        name
    }
}

/// The text that it was read from.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(text),
            Piece::Schema => f.write_str("{schema}"),
            Piece::Table => f.write_str("{table}"),
        })
    }
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Template::parse(text)
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) -> Result<(), TemplateError> {
    check_literal(text)?;
    if !text.is_empty() {
        pieces.push(Piece::Literal(text.to_owned()));
    }
    Ok(())
}

/// Refuses what Kafka allows in no topic's name. For prefixes and templates, which
/// are the user's own words and stay as they are.
pub fn check_literal(text: &str) -> Result<(), TemplateError> {
    match text.chars().find(|&c| !is_legal(c) && c != '.') {
        None => Ok(()),
        Some(c) => Err(TemplateError::Character(c)),
    }
}

/// Refuses what is no topic's whole name.
pub fn check_name(text: &str) -> Result<(), TemplateError> {
    check_literal(text)?;
    if is_name(text) {
        Ok(())
    } else {
        Err(TemplateError::Name)
    }
}

/// The text is no template of a topic's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// A brace that begins no placeholder.
    Placeholder(String),
    /// A character that no topic's name may have.
    Character(char),
    /// Without the table all tables would share one topic.
    NoTable,
    /// Kafka takes no such name.
    Name,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Placeholder(rest) => write!(
                f,
                "unknown placeholder at \"{rest}\": {{schema}} and {{table}} are known"
            ),
            TemplateError::Character(c) => write!(
                f,
                "{c:?} is not allowed in a topic's name: letters, digits, '.', '_' and '-' are"
            ),
            TemplateError::NoTable => f.write_str("{table} is missing"),
            TemplateError::Name => write!(
                f,
                "no topic's name: Kafka takes 1 to {MAX_NAME_BYTES} characters, but not \".\" or \"..\""
            ),
        }
    }
}

impl std::error::Error for TemplateError {}

/// Names the topic of each table, and refuses a name that something else has.
#[derive(Debug)]
pub struct Router {
    template: Template,
    prefix: String,
    /// By the name as Kafka folds it: the topic and whose it is.
    owners: HashMap<String, (String, Owner)>,
}

/// Whose a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Kafka's or Headwater's own.
    Reserved,
    /// The logical messages'.
    Messages,
    /// The dead letters'.
    DeadLetters,
    /// A table's, by schema and name.
    Table(String, String),
}

impl Router {
    /// Routes by `template`, each name led by `prefix`.
    pub fn new(template: Template, prefix: String) -> Self {
        let owners = RESERVED
            .into_iter()
            .map(|topic| (fold(topic), (topic.to_owned(), Owner::Reserved)))
            .collect();
        Router {
            template,
            prefix,
            owners,
        }
    }

    /// The topic of a table. The same table always gets the same one.
    pub fn topic(&mut self, schema: &str, table: &str) -> Result<String, Box<Collision>> {
        let name = shorten(format!(
            "{}{}",
            self.prefix,
            self.template.fill(schema, table)
        ));
        let owner = Owner::Table(schema.to_owned(), table.to_owned());
        self.claim(&name, owner)?;
        Ok(name)
    }

    /// Keeps a topic for logical messages: no table may have it from now on.
    pub fn reserve_for_messages(&mut self, topic: &str) -> Result<(), Box<Collision>> {
        self.claim(topic, Owner::Messages)
    }

    /// Keeps a topic for dead letters: nobody else may have it from now on.
    pub fn reserve_for_dead_letters(&mut self, topic: &str) -> Result<(), Box<Collision>> {
        self.claim(topic, Owner::DeadLetters)
    }

    fn claim(&mut self, topic: &str, owner: Owner) -> Result<(), Box<Collision>> {
        match self.owners.entry(fold(topic)) {
            Entry::Occupied(holder) if holder.get().1 == owner => Ok(()),
            Entry::Occupied(holder) => Err(Box::new(Collision {
                first: holder.get().clone(),
                second: (topic.to_owned(), owner),
            })),
            Entry::Vacant(place) => {
                place.insert((topic.to_owned(), owner));
                Ok(())
            }
        }
    }
}

/// Two owners whose topics Kafka cannot keep apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Collision {
    /// The topic that came first, and whose it is.
    pub first: (String, Owner),
    /// The topic that came second.
    pub second: (String, Owner),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Reserved => f.write_str("Headwater or Kafka itself"),
            Owner::Messages => f.write_str("logical messages"),
            Owner::DeadLetters => f.write_str("dead letters"),
            Owner::Table(schema, table) => write!(f, "table \"{schema}\".\"{table}\""),
        }
    }
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((first, holder), (second, comer)) = (&self.first, &self.second);
        write!(f, "{comer} would go to topic \"{second}\", ")?;
        match holder {
            Owner::Reserved => write!(f, "but topic \"{first}\" is reserved"),
            _ if first == second => write!(f, "which is the topic of {holder}"),
            _ => write!(
                f,
                "but topic \"{first}\" is that of {holder} and Kafka takes the two for one"
            ),
        }
    }
}

impl std::error::Error for Collision {}

impl From<Box<Collision>> for Error {
    fn from(collision: Box<Collision>) -> Self {
        let owners = [&collision.first.1, &collision.second.1];
        let hint = if owners.contains(&&Owner::DeadLetters) {
            "Choose another topic for dead letters with --dead-letter-topic."
        } else if owners.contains(&&Owner::Messages) {
            "Choose another topic for logical messages with --message-topic, or leave them out \
             with --operations insert,update,delete,truncate."
        } else {
            "Leave one of the tables out with --exclude-table, or tell them apart with --topic."
        };
        Error::failed(collision.to_string()).with_hint(hint)
    }
}

/// Kafka's own rule for names that it cannot keep apart.
fn fold(topic: &str) -> String {
    topic.replace('.', "_")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn router() -> Router {
        Router::new(Template::parse(Template::DEFAULT).unwrap(), String::new())
    }

    fn topic(schema: &str, table: &str) -> String {
        router().topic(schema, table).unwrap()
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        assert_eq!(topic("public", "orders"), "orders");
        assert_eq!(topic("shop", "order_lines"), "shop.order_lines");
        assert_eq!(topic("shop", "my_xref-2"), "shop.my_xref-2");
    }

    #[test]
    fn what_kafka_does_not_allow_is_escaped() {
        assert_eq!(topic("shop", "a.b"), "shop.a_x2e_b");
        assert_eq!(topic("public", "größe"), "gr_xc3__xb6__xc3__x9f_e");
        assert_eq!(topic("public", "_x2e_"), "_x5f_x2e_");
        assert_eq!(topic("public", "_x2e."), "_x5f_x2e_x2e_");
    }

    #[test]
    fn template_and_prefix_place_the_names() {
        let template = Template::parse("cdc-{schema}_{table}.v1").unwrap();
        let mut router = Router::new(template, "eu.".to_owned());
        assert_eq!(router.topic("s", "t").unwrap(), "eu.cdc-s_t.v1");
        assert_eq!(router.topic("public", "t").unwrap(), "eu.cdc-_t.v1");
    }

    #[test]
    fn a_template_that_is_none_is_refused() {
        for (text, error) in [
            ("{schema}", TemplateError::NoTable),
            ("{table}:x", TemplateError::Character(':')),
            ("{tabel}", TemplateError::Placeholder("{tabel}".to_owned())),
            ("{table}}", TemplateError::Placeholder("}".to_owned())),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn names_that_kafka_takes_for_one_are_refused() {
        let mut router = router();
        router.topic("a", "b_c").unwrap();
        let collision = router.topic("a_b", "c").unwrap_err();
        assert_eq!(
            collision.to_string(),
            "table \"a_b\".\"c\" would go to topic \"a_b.c\", but topic \"a.b_c\" is that of table \
             \"a\".\"b_c\" and Kafka takes the two for one"
        );
        assert_eq!(
            router.topic("a", "b_c").unwrap(),
            "a.b_c",
            "the first keeps its topic"
        );
    }

    #[test]
    fn reserved_topics_are_refused() {
        assert!(router().topic("__headwater", "state").is_err());
        assert!(router().topic("public", "__consumer_offsets").is_err());
    }

    #[test]
    fn the_topic_of_messages_belongs_to_no_table() {
        let mut router = router();
        router.reserve_for_messages("shop.messages").unwrap();
        let folded = router.topic("public", "shop_messages").unwrap_err();
        assert_eq!(
            folded.to_string(),
            "table \"public\".\"shop_messages\" would go to topic \"shop_messages\", but topic \
             \"shop.messages\" is that of logical messages and Kafka takes the two for one"
        );
        let same = Error::from(router.topic("shop", "messages").unwrap_err());
        assert_eq!(
            same.to_string(),
            "table \"shop\".\"messages\" would go to topic \"shop.messages\", which is the topic \
             of logical messages"
        );
        let hint = same.hint().unwrap();
        assert!(hint.contains("--message-topic") && hint.contains("--operations"));
        router.reserve_for_messages("shop.messages").unwrap();
        assert!(router.reserve_for_messages("__headwater.state").is_err());
    }

    #[test]
    fn a_template_without_schema_collides_where_tables_do() {
        let mut router = Router::new(Template::parse("{table}").unwrap(), String::new());
        router.topic("a", "t").unwrap();
        assert!(router.topic("b", "t").is_err());
    }

    #[test]
    fn a_long_name_is_cut_and_still_its_own() {
        let long = "é".repeat(31);
        let (a, b) = (
            topic(&long, &format!("{long}a")),
            topic(&long, &format!("{long}b")),
        );
        assert_eq!((a.len(), b.len()), (MAX_NAME_BYTES, MAX_NAME_BYTES));
        assert_ne!(a, b);
    }

    /// Reads escapes back, from left to right.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            if let [b'_', b'x', high, low, b'_', after @ ..] = rest {
                let digit = |byte: u8| {
                    let digit = char::from(byte).to_digit(16);
                    digit.filter(|_| !byte.is_ascii_uppercase())
                };
                if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                    bytes.push(u8::try_from(high << 4 | low).unwrap());
                    rest = after;
                    continue;
                }
            }
            bytes.push(*first);
            rest = tail;
        }
        bytes
    }

    proptest! {
        #[test]
        fn escapes_read_back_as_the_name(name in "([_x25e.fé-]|\\PC){0,20}") {
            let mut escaped = String::new();
            escape(&name, &mut escaped);
            prop_assert!(escaped.chars().all(is_legal), "{escaped}");
            let read = unescape(&escaped);
            prop_assert_eq!(std::str::from_utf8(&read), Ok(name.as_str()));
        }

        #[test]
        fn two_tables_never_share_a_topic(
            a in ("[_x2e.]{1,8}", "[_x2e.]{1,8}"),
            b in ("[_x2e.]{1,8}", "[_x2e.]{1,8}"),
        ) {
            prop_assume!(a != b);
            prop_assert_ne!(topic(&a.0, &a.1), topic(&b.0, &b.1));
        }
    }
}
