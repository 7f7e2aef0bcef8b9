//! A schema that the registry does not take, as a person is told.

use crate::error::{Error, ErrorKind};

/// What was asked for and what came of it. It is true until the subject, its level or the table
/// changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `schema.table`
    pub table: String,
    /// Where its records go.
    pub topic: String,
    /// Whose schemas it contradicts.
    pub subject: String,
    /// Why.
    pub grounds: Grounds,
}

/// Why a schema is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// It is not compatible with what the subject has.
    Incompatible {
        /// What the subject asks of a new schema; none where that could not be learned.
        level: Option<String>,
        /// What the schema has otherwise than the newest one of the subject, where that could be
        /// learned.
        difference: Vec<String>,
        /// The registry's own words.
        messages: Vec<String>,
    },
    /// The registry's own words say.
    Told(String),
}

impl Refused {
    /// Why the records of the table cannot be delivered, as one sentence.
    pub fn reason(&self) -> String {
        let Refused { subject, topic, .. } = self;
        match &self.grounds {
            Grounds::Incompatible {
                level,
                difference,
                messages,
            } => {
                let mut text = format!(
                    "its schema is not compatible with what subject {subject} has for topic \"{topic}\""
                );
                if let Some(level) = level {
                    text = format!("{text} at level {level}");
                }
                if !difference.is_empty() {
                    text = format!("{text}: {}", difference.join("; "));
                }
                if !messages.is_empty() {
                    text = format!("{text} (the registry says: {})", messages.join("; "));
                }
                text
            }
            Grounds::Told(words) => format!(
                "the schema registry does not take its schema for subject {subject} of topic \
                 \"{topic}\" (the registry says: {words})"
            ),
        }
    }

    /// The error of a stream that stops at it. `others` is how to go on with the other tables.
    pub fn error(&self, others: &str) -> Error {
        Error::new(
            ErrorKind::Data,
            format!("{} cannot be sent: {}", self.table, self.reason()),
        )
        .with_hint(format!(
            "Make the table as it was, set another compatibility level for subject {}, or begin new \
             topics under another --topic-prefix and --slot. {others}",
            self.subject
        ))
    }
}

/// Another id than records have already.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherId<'a> {
    pub(super) subject: &'a str,
    pub(super) topic: &'a str,
    pub(super) recorded: u32,
    pub(super) answered: u32,
}

impl OtherId<'_> {
    /// The id is part of the key's bytes: with another one a row's next record would be one of
    /// another key, in another partition perhaps, and compaction would keep both.
    pub(super) fn error(&self, registry: &str) -> Error {
        let OtherId {
            subject,
            topic,
            recorded,
            answered,
        } = self;
        Error::failed(format!(
            "the schema registry at {registry} answers id {answered} for the key schema of subject \
             {subject}, which is unchanged and had id {recorded}: keys in topic \"{topic}\" begin \
             with {recorded}, and a row's records would come to have two keys"
        ))
        .with_hint(format!(
            "Restore the registry, so that {recorded} is the schema's id again, or name the registry \
             that has it with --registry; or begin new topics under another --topic-prefix and \
             --slot."
        ))
    }
}

/// An id that records carry for another schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedId<'a> {
    pub(super) id: u32,
    /// Whose schema was asked for.
    pub(super) subject: &'a str,
    /// Whose records carry it.
    pub(super) other: &'a str,
}

impl SharedId<'_> {
    pub(super) fn error(&self, registry: &str) -> Error {
        let SharedId { id, subject, other } = self;
        Error::failed(format!(
            "the schema registry at {registry} answers id {id} for a schema of subject {subject}, and \
             records carry id {id} for another schema, of subject {other}: they would be read by one \
             that they do not have"
        ))
        .with_hint(format!(
            "The registry has lost its schemas. Restore it, so that {id} is the schema of {other} \
             again, or name the registry that has it with --registry; or begin new topics under \
             another --topic-prefix and --slot."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_table_topic_subject_level_difference_and_the_registrys_words() {
        let refused = Refused {
            table: "public.orders".to_owned(),
            topic: "orders".to_owned(),
            subject: "orders-value".to_owned(),
            grounds: Grounds::Incompatible {
                level: Some("FULL".to_owned()),
                difference: vec![
                    "public.orders.Row: field a changed from int to string".to_owned(),
                ],
                messages: vec!["TYPE_MISMATCH".to_owned()],
            },
        };
        let error = refused.error("");
        assert_eq!(error.kind().exit_code(), 5);
        assert_eq!(
            error.to_string(),
            "public.orders cannot be sent: its schema is not compatible with what subject \
             orders-value has for topic \"orders\" at level FULL: public.orders.Row: field a changed \
             from int to string (the registry says: TYPE_MISMATCH)"
        );
    }
}
