//! The ids that a schema registry has given to the schemas of a subject.
//!
//! They are on record so that a client which starts while the registry is away goes on with the
//! tables whose schemas are known, and so that a registry which was begun anew is found out. Unlike
//! a position, what one instance has written is as good as what another has: who loses an entry
//! asks the registry once more.
//!
//! An id that a schema had before it got another one stays on record beside it: the records that
//! carry it are still there, and nothing else may be found under it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::error::Result;

/// Ids of a subject that are kept on record: a stream that goes back to its position meets those
/// of the ALTERs since.
const KEPT: usize = 16;

/// The ids of the newest schemas of one subject, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectIds(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// XXH3-128 of the schema's text, in hexadecimal.
    fingerprint: String,
    /// What a reader makes of bytes under the schema: schemas that read alike may share an id.
    #[serde(with = "hexadecimal")]
    meaning: u128,
    id: u32,
}

impl SubjectIds {
    /// The id of a schema, given as its text.
    pub fn id(&self, schema: &str) -> Option<u32> {
        let fingerprint = fingerprint(schema);
        let mut newest = self.0.iter().rev();
        let entry = newest.find(|entry| entry.fingerprint == fingerprint);
        entry.map(|entry| entry.id)
    }

    /// The ids that records may carry, each with what it means there.
    pub fn carried(&self) -> impl Iterator<Item = (u32, u128)> {
        self.0.iter().map(|entry| (entry.id, entry.meaning))
    }

    /// Notes the id of a schema as the newest. The oldest goes where there are too many.
    pub fn put(&mut self, schema: &str, meaning: u128, id: u32) {
        let entry = Entry {
            fingerprint: fingerprint(schema),
            meaning,
            id,
        };
        self.0.retain(|known| *known != entry);
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push(entry);
    }
}

fn fingerprint(schema: &str) -> String {
    format!("{:032x}", XxHash3_128::oneshot(schema.as_bytes()))
}

/// A number of 128 bits as JSON can have it.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        number: &u128,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// Where ids are kept: records of their own beside the state, one a subject.
pub trait SchemaIds: Send {
    /// What is on record, by subject.
    fn load(&mut self) -> Result<HashMap<String, SubjectIds>>;

    /// Returns once the ids of a subject are durable.
    fn store(&mut self, subject: &str, ids: &SubjectIds) -> Result<()>;

    /// Forgets all of them, returning once that is durable.
    fn clear(&mut self) -> Result<()>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_form_is_fixed() {
        let mut ids = SubjectIds::default();
        ids.put(r#""int""#, 255, 7);
        let form = r#"[{"fingerprint":"473a99647d6290c895cabafdc74a9c3f","meaning":"000000000000000000000000000000ff","id":7}]"#;
        assert_eq!(serde_json::to_string(&ids).unwrap(), form);
        assert_eq!(serde_json::from_str::<SubjectIds>(form).unwrap(), ids);
    }

    #[test]
    fn the_newest_are_kept_and_one_that_comes_again_is_the_newest() {
        let mut ids = SubjectIds::default();
        ids.put("first", 1, 1);
        for number in 0..KEPT - 1 {
            ids.put(&number.to_string(), 0, 100);
        }
        ids.put("first", 1, 1);
        ids.put("last", 2, 3);
        assert_eq!(ids.id("first"), Some(1));
        assert_eq!(ids.id("last"), Some(3));
        assert_eq!(ids.id("0"), None, "the oldest");
        assert_eq!(ids.0.len(), KEPT);
    }

    #[test]
    fn an_id_that_a_schema_had_before_stays_its_own() {
        let mut ids = SubjectIds::default();
        ids.put("a", 10, 1);
        ids.put("a", 10, 7);
        assert_eq!(ids.id("a"), Some(7));
        assert_eq!(ids.carried().collect::<Vec<_>>(), [(1, 10), (7, 10)]);
    }
}
