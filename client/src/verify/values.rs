//! What of a record or a row is compared: its row's bytes.
//!
//! In the `row` envelope that is the value. In the `change` envelope it is what stands under
//! `after`, byte for byte, since what is around it tells of the change and not of the row.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::avro::Form;
use super::entry::{Content, Digest, Digests};
use super::project::After;
use crate::cli::ValueEnvelope;
use crate::error::Result;

/// Makes digests of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    /// How values and keys become digests.
    pub(super) digests: Digests,
    /// The form of values.
    pub(super) envelope: ValueEnvelope,
}

/// What of an event is compared.
#[derive(Deserialize)]
struct Event<'v> {
    #[serde(borrow, deserialize_with = "present")]
    after: Option<&'v RawValue>,
    #[serde(default, borrow)]
    unchanged: Option<&'v RawValue>,
}

/// What has no `after` is no event, and one that has null says that there is no row.
fn present<'v, D: Deserializer<'v>>(value: D) -> Result<Option<&'v RawValue>, D::Error> {
    Option::deserialize(value)
}

impl Values {
    /// As [`Values::content`], of a record of a topic with this form.
    ///
    /// # Errors
    /// The schema registry does not answer.
    pub(super) fn content_in(
        self,
        form: Option<&Form>,
        value: Option<&[u8]>,
        marked: bool,
    ) -> Result<Content> {
        let (Some(form), Some(value)) = (form, value) else {
            return Ok(self.content(value, marked));
        };
        Ok(match form.record(value)? {
            Some(After::Row(_)) if marked => Content::Incomplete,
            Some(After::Row(row)) => Content::Row(self.digests.of(&row)),
            Some(After::Nothing) => Content::Nothing,
            Some(After::Incomplete) => Content::Incomplete,
            None => Content::Row(self.digests.of_other(value)),
        })
    }

    /// As [`Values::row`], of a table whose topic has this form.
    pub(super) fn row_in(self, form: Option<&Form>, value: &[u8]) -> Digest {
        let Some(form) = form else {
            return self.row(value);
        };
        match form.row(value) {
            Some(row) => self.digests.of(&row),
            None => self.digests.of_other(value),
        }
    }

    /// What a record in JSON says of its key's row. `marked` is whether a header names columns
    /// that it lacks.
    fn content(self, value: Option<&[u8]>, marked: bool) -> Content {
        let Some(value) = value else {
            return Content::Nothing;
        };
        let (content, lacks) = match self.envelope {
            ValueEnvelope::Row => (Content::Row(self.digests.of(value)), false),
            ValueEnvelope::Change => self.event(value),
        };
        match content {
            Content::Row(_) if marked || lacks => Content::Incomplete,
            content => content,
        }
    }

    /// A row of the table, as the encoder makes JSON of it.
    fn row(self, value: &[u8]) -> Digest {
        match self.content(Some(value), false) {
            Content::Row(digest) => digest,
            Content::Nothing | Content::Incomplete => self.digests.of_other(value),
        }
    }

    /// A value that is no event is somebody else's, and no row's.
    fn event(self, value: &[u8]) -> (Content, bool) {
        match serde_json::from_slice::<Event<'_>>(value) {
            Ok(event) => {
                let content = event.after.map_or(Content::Nothing, |after| {
                    Content::Row(self.digests.of(after.get().as_bytes()))
                });
                (content, event.unchanged.is_some())
            }
            Err(_) => (Content::Row(self.digests.of_other(value)), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(envelope: ValueEnvelope) -> Values {
        Values {
            digests: Digests::new(),
            envelope,
        }
    }

    #[test]
    fn events_are_compared_by_the_row_after_them() {
        let values = values(ValueEnvelope::Change);
        let content = |text: &str| values.content(Some(text.as_bytes()), false);
        let row = Content::Row(values.row(br#"{"after":{"id":1,"a":[1, 2]},"op":"r"}"#));
        for (event, expected) in [
            (
                r#"{"before":null,"after":{"id":1,"a":[1, 2]},"op":"u"}"#,
                row,
            ),
            (
                r#"{"before":{"id":1},"after":null,"op":"d"}"#,
                Content::Nothing,
            ),
            (
                r#"{"after":{"id":1,"a":[1, 2]},"op":"u","unchanged":["b"]}"#,
                Content::Incomplete,
            ),
        ] {
            assert_eq!(content(event), expected, "{event}");
        }
        for other in [
            r#"{"id":1,"a":[1, 2]}"#,
            r#"{"after":{"id":1,"a":[1,2]}}"#,
            "garbage",
        ] {
            let content = content(other);
            assert!(
                matches!(content, Content::Row(_)) && content != row,
                "{other}: {content:?}"
            );
        }
    }

    #[test]
    fn rows_are_compared_whole() {
        let values = values(ValueEnvelope::Row);
        let row = br#"{"id":1}"#;
        assert_eq!(
            values.content(Some(row), false),
            Content::Row(values.row(row))
        );
        assert_eq!(values.content(Some(row), true), Content::Incomplete);
        assert_eq!(values.content(None, false), Content::Nothing);
        assert_ne!(values.row(row), values.row(br#"{"id":2}"#));
    }
}
