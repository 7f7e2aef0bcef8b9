//! A schema that the registry does not take, as a person is told.

use crate::error::{Error, ErrorKind};

/// Of the difference, and of the registry's own words, at most so many bytes are told: each dead letter
/// has them. A table of 1600 columns may differ in all, and registries repeat whole schemas.
const TOLD_BYTES: usize = 1_000;

/// What was asked for and what came of it. It is true until the subject, its level or the table
/// changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    table: String,
    reason: String,
    /// Ways on, as the beginning of a sentence.
    cure: String,
}

/// Why a schema is not taken.
pub(super) enum Grounds {
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
    /// The registry takes it, and readers would take values for something else.
    Misread {
        /// As above.
        level: Option<String>,
        /// What the schema has otherwise than the version that it does not go with.
        difference: Vec<String>,
        /// What who would misread.
        misread: Vec<String>,
    },
    /// The registry's own words say.
    Told(String),
}

impl Refused {
    /// A schema of `table`, `schema.table`, for a `subject` whose `topic` its records go to.
    pub(super) fn new(table: &str, topic: &str, subject: &str, grounds: &Grounds) -> Self {
        let incompatible = |level: &Option<String>, difference: &[String]| {
            let mut text = format!(
                "its schema is not compatible with what subject {subject} has for topic \"{topic}\""
            );
            if let Some(level) = level {
                text = format!("{text} at level {level}");
            }
            if !difference.is_empty() {
                text = format!("{text}: {}", listed(difference));
            }
            text
        };
        let (mut reason, said, words) = match grounds {
            Grounds::Incompatible {
                level,
                difference,
                messages,
            } => (
                incompatible(level, difference),
                "the registry says",
                messages.as_slice(),
            ),
            Grounds::Misread {
                level,
                difference,
                misread,
            } => (
                incompatible(level, difference),
                "the registry takes it, and readers would misread it",
                misread.as_slice(),
            ),
            Grounds::Told(words) => (
                format!(
                    "the schema registry does not take its schema for subject {subject} of topic \
                     \"{topic}\""
                ),
                "the registry says",
                std::slice::from_ref(words),
            ),
        };
        if !words.is_empty() {
            reason = format!("{reason} ({said}: {})", listed(words));
        }
        let cure = match grounds {
            Grounds::Misread { .. } => format!(
                "Make the column as it was and add one of the new type, copy the values and drop the old \
                 one; if every reader takes each record by the schema that it names, set the \
                 compatibility level of subject {subject} to NONE for the change"
            ),
            _ => format!(
                "Make the table as it was, set another compatibility level for subject {subject}"
            ),
        };
        Refused {
            table: table.to_owned(),
            reason,
            cure,
        }
    }

    /// Why the records of the table cannot be delivered, as one sentence of bounded length.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The error of a stream that stops at it. `others` is how to go on with the other tables.
    pub fn error(&self, others: &str) -> Error {
        Error::new(
            ErrorKind::Data,
            format!("{} cannot be sent: {}", self.table, self.reason()),
        )
        .with_hint(format!(
            "{}, or begin new topics under another --topic-prefix and --slot. {others}",
            self.cure
        ))
    }
}

/// As many of the lines as [`TOLD_BYTES`] has room for, the beginning of the first at least, and how
/// many there are besides.
fn listed(lines: &[String]) -> String {
    let mut text = String::new();
    for (place, line) in lines.iter().enumerate() {
        if place > 0 && text.len() + line.len() > TOLD_BYTES {
            return format!("{text}; and {} more", lines.len() - place);
        }
        let end = line.floor_char_boundary(TOLD_BYTES);
        text.push_str(if place > 0 { "; " } else { "" });
        text.push_str(&line[..end]);
        text.push_str(if end < line.len() { "…" } else { "" });
    }
    text
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_names_table_topic_subject_level_difference_and_the_registrys_words() {
        let grounds = Grounds::Incompatible {
            level: Some("FULL".to_owned()),
            difference: vec!["public.orders.Row: field a changed from int to string".to_owned()],
            messages: vec!["TYPE_MISMATCH".to_owned()],
        };
        let refused = Refused::new("public.orders", "orders", "orders-value", &grounds);
        let error = refused.error("");
        assert_eq!(error.kind().exit_code(), 5);
        assert_eq!(
            error.to_string(),
            "public.orders cannot be sent: its schema is not compatible with what subject \
             orders-value has for topic \"orders\" at level FULL: public.orders.Row: field a changed \
             from int to string (the registry says: TYPE_MISMATCH)"
        );
    }

    #[test]
    fn what_would_be_misread_is_told_with_a_way_on_of_its_own() {
        let grounds = Grounds::Misread {
            level: Some("FULL".to_owned()),
            difference: vec!["public.t.Row: field a changed from date(int) to int".to_owned()],
            misread: vec!["field public.t.Row.a: int is read as date(int) by version 1".to_owned()],
        };
        let error = Refused::new("public.t", "t", "t-value", &grounds).error("Others go on.");
        assert_eq!(
            error.to_string(),
            "public.t cannot be sent: its schema is not compatible with what subject t-value has for \
             topic \"t\" at level FULL: public.t.Row: field a changed from date(int) to int (the \
             registry takes it, and readers would misread it: field public.t.Row.a: int is read as \
             date(int) by version 1)"
        );
        let cure = error.hint().unwrap();
        assert!(cure.contains("add one of the new type"), "{cure}");
        assert!(cure.contains("subject t-value to NONE"), "{cure}");
        assert!(cure.ends_with("--slot. Others go on."), "{cure}");
    }

    #[test]
    fn its_length_is_bounded_however_much_there_is_to_tell() {
        let difference: Vec<String> = (0..1_600)
            .map(|number| format!("public.wide.Row: field c{number} added, string or null"))
            .collect();
        let grounds = Grounds::Incompatible {
            level: Some("FULL".to_owned()),
            difference,
            messages: vec!["ü".repeat(1 << 20), "and this".to_owned()],
        };
        let refused = Refused::new("public.wide", "wide", "wide-value", &grounds);
        let reason = refused.reason();
        assert!(reason.len() < 3 * TOLD_BYTES, "{} bytes", reason.len());
        assert!(reason.contains("field c0 added"), "{reason}");
        let (told, rest) = reason.split_once("; and ").unwrap();
        let told = told.matches("added").count();
        assert!(
            rest.starts_with(&format!("{} more", 1_600 - told)),
            "{reason}"
        );
        assert!(reason.ends_with("ü…; and 1 more)"), "{reason}");
    }
}
