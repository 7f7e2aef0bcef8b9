//! The bytes before a key and a value that say by which schema they are read: Confluent's wire
//! format, a zero and the schema's id (docs.confluent.io, "Wire format"). JSON has none.
//!
//! The server's bytes are copied once, behind the five; what they are copied into is used again.

use headwater_protocol::frame::Change;

use super::Ids;

/// The first byte of what has a schema id.
const MAGIC: u8 = 0;

/// The id, and the byte before it.
pub const HEADER_BYTES: usize = 5;

/// What a giant row leaves behind is let go beyond this.
const KEPT_BYTES: usize = 1 << 20;

/// Where stamped bytes are put.
#[derive(Debug, Default)]
pub struct Stamp(Vec<u8>);

/// Where something stamped is.
#[derive(Clone, Copy)]
struct Place(usize, usize);

impl Stamp {
    /// Something with its schema's id before it. What was stamped before goes.
    pub fn bytes(&mut self, id: u32, bytes: &[u8]) -> &[u8] {
        self.begin();
        let place = self.push(id, bytes);
        self.at(place)
    }

    /// As [`Stamp::bytes`], by itself.
    pub fn owned(id: u32, bytes: &[u8]) -> Vec<u8> {
        let mut stamp = Stamp::default();
        stamp.push(id, bytes);
        stamp.0
    }

    /// A key and a value, each with its id before it.
    pub fn pair<'s>(
        &'s mut self,
        ids: Ids,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> (Option<&'s [u8]>, Option<&'s [u8]>) {
        self.begin();
        let key = self.key(ids, key);
        let value = value.map(|value| self.push(ids.value, value));
        (
            key.map(|place| self.at(place)),
            value.map(|place| self.at(place)),
        )
    }

    /// A change whose keys and value have their ids before them.
    pub fn change<'s>(&'s mut self, ids: Ids, change: &Change<'s>) -> Change<'s> {
        self.begin();
        let old_key = self.key(ids, change.old_key);
        let key = self.key(ids, change.key);
        let value = change.value.map(|value| self.push(ids.value, value));
        Change {
            old_key: old_key.map(|place| self.at(place)),
            key: key.map(|place| self.at(place)),
            value: value.map(|place| self.at(place)),
            ..change.clone()
        }
    }

    fn begin(&mut self) {
        self.0.clear();
        self.0.shrink_to(KEPT_BYTES);
    }

    /// A schema of a relation with a key is one of two.
    fn key(&mut self, ids: Ids, key: Option<&[u8]>) -> Option<Place> {
        let (id, key) = (ids.key?, key?);
        Some(self.push(id, key))
    }

    fn push(&mut self, id: u32, bytes: &[u8]) -> Place {
        let start = self.0.len();
        self.0.reserve(HEADER_BYTES + bytes.len());
        self.0.push(MAGIC);
        self.0.extend_from_slice(&id.to_be_bytes());
        self.0.extend_from_slice(bytes);
        Place(start, self.0.len())
    }

    fn at(&self, Place(start, end): Place) -> &[u8] {
        &self.0[start..end]
    }
}

#[cfg(test)]
mod tests {
    use headwater_protocol::frame::Op;

    use super::*;

    const IDS: Ids = Ids {
        key: Some(7),
        value: 0x0102_0304,
    };

    #[test]
    fn a_change_has_the_id_of_its_schema_before_each_part() {
        let change = Change {
            op: Op::Update,
            relation: 1,
            seq: 2,
            key: Some(b"k"),
            old_key: Some(b"old"),
            value: Some(b""),
            unchanged: vec!["a"],
        };
        let mut stamp = Stamp::default();
        let stamped = stamp.change(IDS, &change);
        assert_eq!(stamped.key, Some(b"\x00\x00\x00\x00\x07k".as_slice()));
        assert_eq!(stamped.old_key, Some(b"\x00\x00\x00\x00\x07old".as_slice()));
        assert_eq!(stamped.value, Some(b"\x00\x01\x02\x03\x04".as_slice()));
        assert_eq!(stamped.unchanged, ["a"]);
    }

    #[test]
    fn what_is_absent_stays_absent() {
        let mut stamp = Stamp::default();
        assert_eq!(stamp.pair(IDS, None, None), (None, None));
        let unkeyed = Ids { key: None, ..IDS };
        let (key, value) = stamp.pair(unkeyed, None, Some(b"v"));
        assert_eq!(
            (key, value),
            (None, Some(b"\x00\x01\x02\x03\x04v".as_slice()))
        );
    }
}
