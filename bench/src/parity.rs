//! Whether a topic holds what the table went through: the records of every key, counted,
//! and what the last of them is. A pipeline that left one out would look fast.

use std::ops::Range;

use headwater_tests::{Kafka, topic};
use rdkafka::Message;

/// What became of the rows with these keys: all were inserted, the first were updated, and
/// the first of those deleted.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) keys: Range<u64>,
    pub(crate) updates: u64,
    pub(crate) deletes: u64,
    /// An envelope may come before the tombstone.
    pub(crate) records_of_a_delete: u32,
    /// Finds a row's number in a record's key.
    pub(crate) id: fn(&[u8]) -> u64,
}

/// A key's records, and whether the last is a tombstone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct History {
    records: u32,
    deleted: bool,
}

impl Expected {
    /// Rows that were inserted and nothing else.
    pub(crate) fn inserts(keys: Range<u64>) -> Self {
        Expected {
            keys,
            updates: 0,
            deletes: 0,
            records_of_a_delete: 1,
            id: id_in_json,
        }
    }

    fn rows(&self) -> u64 {
        self.keys.end - self.keys.start
    }

    /// Changes of rows.
    pub(crate) fn changes(&self) -> u64 {
        self.rows() + self.updates + self.deletes
    }

    /// Records.
    pub(crate) fn records(&self) -> u64 {
        self.rows() + self.updates + self.deletes * u64::from(self.records_of_a_delete)
    }

    fn history(&self, row: u64) -> History {
        let deleted = row < self.deletes;
        let updates = u32::from(row < self.updates);
        let deletes = if deleted { self.records_of_a_delete } else { 0 };
        History {
            records: 1 + updates + deletes,
            deleted,
        }
    }

    /// Reads the whole topic.
    ///
    /// # Panics
    ///
    /// If a key has another history: the run is void.
    pub(crate) fn check(&self, kafka: &Kafka, topic: &str) {
        let mut histories = vec![History::default(); self.rows() as usize];
        let read = topic::for_each(kafka, topic, |record| {
            let key = (self.id)(record.key().unwrap_or_default());
            let row = key.checked_sub(self.keys.start).map(|row| row as usize);
            let history = row
                .and_then(|row| histories.get_mut(row))
                .unwrap_or_else(|| panic!("void: topic {topic} has a record of key {key}"));
            history.records += 1;
            history.deleted = record.payload().is_none();
        });
        read.unwrap_or_else(|e| panic!("cannot read {topic}: {e}"));
        for (row, history) in histories.iter().enumerate() {
            let (key, expected) = (self.keys.start + row as u64, self.history(row as u64));
            assert_eq!(*history, expected, "void: key {key} in topic {topic}");
        }
    }
}

/// The number in `{"id":…}`.
pub(crate) fn id_in_json(key: &[u8]) -> u64 {
    key.iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0, |id, digit| id * 10 + u64::from(digit - b'0'))
}

/// The number that ends an Avro key whose only field is a `long`: a zigzag varint, behind a
/// header whose length is the registry's affair. The header ends in the last byte of a schema's
/// id, which is small here.
pub(crate) fn id_in_avro(key: &[u8]) -> u64 {
    let Some((last, before)) = key.split_last() else {
        return 0;
    };
    let continued = before.iter().rev().take_while(|byte| **byte >= 0x80);
    let zigzag = continued.fold(u64::from(*last), |value, byte| {
        value << 7 | u64::from(byte & 0x7F)
    });
    (zigzag >> 1) ^ (zigzag & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_avro_has_its_number_behind_a_header_of_any_length() {
        assert_eq!(id_in_avro(&[0, 0, 0, 0, 7, 2]), 1);
        assert_eq!(id_in_avro(&[0, 0, 0, 0, 7, 0x80, 0x89, 0x7A]), 1_000_000);
        assert_eq!(id_in_avro(&[0, 0, 0, 0, 0, 0, 0, 0, 7, 0x80, 0x01]), 64);
    }
}
