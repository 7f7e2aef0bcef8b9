//! The headers `hw.*` as text, and back.
//!
//! librdkafka allocates each header once; nothing else is allocated here: numbers are
//! written into a buffer on the stack. At several hundred thousand records a second
//! `format!` would take a tenth of a core for it.

use headwater_protocol::Lsn;
use rdkafka::message::{BorrowedHeaders, Header, Headers as _, OwnedHeaders};

use crate::sink::{DeadLetter, Headers};

const OP: &str = "hw.op";
const LSN: &str = "hw.lsn";
const SEQ: &str = "hw.seq";
const XID: &str = "hw.xid";
const TS: &str = "hw.ts";
const UNCHANGED: &str = "hw.unchanged";
const FETCHED: &str = "hw.fetched";
const RELATION: &str = "hw.relation";
const TOPIC: &str = "hw.topic";
const REASON: &str = "hw.reason";
const SIZE: &str = "hw.size";
const LIMIT: &str = "hw.limit";
const TRUNCATED: &str = "hw.truncated";
const KEY_OMITTED: &str = "hw.key.omitted";

/// Op, LSN, sequence number, xid and time: those that nearly every record has.
const USUAL: usize = 5;

/// Writes the headers. `unchanged` is the text of [`unchanged_text`].
pub(super) fn write(facts: &Headers<'_>, unchanged: Option<&str>) -> OwnedHeaders {
    let put = |headers: OwnedHeaders, key, value: &[u8]| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    };
    let mut headers = OwnedHeaders::new_with_capacity(USUAL);
    headers = put(headers, OP, facts.op.as_bytes());
    headers = put(headers, LSN, Text::default().lsn(facts.lsn));
    headers = put(headers, SEQ, Text::default().decimal(facts.seq));
    if let Some((xid, micros)) = facts.transaction {
        headers = put(headers, XID, Text::default().decimal(u64::from(xid)));
        headers = put(headers, TS, Text::default().signed(micros));
    }
    if let Some(columns) = unchanged {
        headers = put(headers, UNCHANGED, columns.as_bytes());
    }
    if facts.fetched {
        headers = put(headers, FETCHED, b"true");
    }
    headers
}

/// How much of a dead letter's bytes it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// The length of the whole value, where the end of it was cut off.
    pub(super) value: Option<u64>,
    /// The length of the key, where it was left out.
    pub(super) key: Option<u64>,
}

/// Writes the headers of a dead letter behind those that the record would have had.
/// `meant_for` is the name of the topic that the record was for.
pub(super) fn write_dead_letter(
    letter: &DeadLetter<'_>,
    unchanged: Option<&str>,
    meant_for: Option<&str>,
    cut: Cut,
) -> OwnedHeaders {
    let mut headers = write(&letter.headers, unchanged);
    let mut put = |key, value: Option<&[u8]>| {
        if value.is_some() {
            let taken = std::mem::take(&mut headers);
            headers = taken.insert(Header { key, value });
        }
    };
    let mut numbers = [
        Text::default(),
        Text::default(),
        Text::default(),
        Text::default(),
    ];
    let [size, limit, value, key] = &mut numbers;
    put(RELATION, letter.relation.map(str::as_bytes));
    put(TOPIC, meant_for.map(str::as_bytes));
    put(REASON, Some(letter.reason.as_bytes()));
    put(SIZE, letter.bytes.map(|bytes| size.decimal(bytes)));
    put(LIMIT, letter.limit.map(|bytes| limit.decimal(bytes)));
    put(TRUNCATED, cut.value.map(|bytes| value.decimal(bytes)));
    put(KEY_OMITTED, cut.key.map(|bytes| key.decimal(bytes)));
    headers
}

/// The columns as `hw.unchanged` lists them: separated by commas, quoted as SQL quotes
/// identifiers where a comma or a quote would mislead. None where there are no columns.
pub(super) fn unchanged_text(columns: &[&str]) -> Option<String> {
    if columns.is_empty() {
        return None;
    }
    let mut text = String::new();
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if column.contains([',', '"']) {
            text.push('"');
            text.push_str(&column.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(column);
        }
    }
    Some(text)
}

/// The length of `hw.unchanged` in what [`fn@write`] wrote: the one header without a bound.
pub(super) fn unchanged_bytes(headers: Option<&BorrowedHeaders>) -> usize {
    let Some(headers) = headers.filter(|headers| headers.count() > USUAL) else {
        return 0;
    };
    headers
        .iter()
        .skip(USUAL)
        .find(|header| header.key == UNCHANGED)
        .and_then(|header| header.value)
        .map_or(0, <[u8]>::len)
}

/// Name and length of each header that was written.
pub(super) fn lengths(headers: Option<&BorrowedHeaders>) -> impl Iterator<Item = (&str, usize)> {
    headers
        .into_iter()
        .flat_map(rdkafka::message::Headers::iter)
        .map(|header| (header.key, header.value.map_or(0, <[u8]>::len)))
}

/// `hw.lsn` of a record in a topic; none where it is missing or no LSN.
pub(crate) fn read_lsn(headers: Option<&BorrowedHeaders>) -> Option<Lsn> {
    let value = headers?.iter().find(|header| header.key == LSN)?.value?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a record in a topic names columns that it lacks.
pub(crate) fn lacks_columns(headers: Option<&BorrowedHeaders>) -> bool {
    headers.is_some_and(|headers| headers.iter().any(|header| header.key == UNCHANGED))
}

/// A short text on the stack: the longest is a signed 64-bit number.
#[derive(Default)]
struct Text {
    bytes: [u8; 20],
}

impl Text {
    fn decimal(&mut self, number: u64) -> &[u8] {
        let start = self.digits_before(self.bytes.len(), number, 10);
        &self.bytes[start..]
    }

    fn signed(&mut self, number: i64) -> &[u8] {
        let mut start = self.digits_before(self.bytes.len(), number.unsigned_abs(), 10);
        if number < 0 {
            start -= 1;
            self.bytes[start] = b'-';
        }
        &self.bytes[start..]
    }

    fn lsn(&mut self, lsn: Lsn) -> &[u8] {
        let mut start = self.digits_before(self.bytes.len(), lsn.0 & 0xFFFF_FFFF, 16);
        start -= 1;
        self.bytes[start] = b'/';
        start = self.digits_before(start, lsn.0 >> 32, 16);
        &self.bytes[start..]
    }

    /// Writes the digits so that they end before `end`, and returns where they start.
    fn digits_before(&mut self, end: usize, mut number: u64, base: u64) -> usize {
        const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
        let mut start = end;
        loop {
            start -= 1;
            self.bytes[start] = DIGITS[(number % base) as usize];
            number /= base;
            if number == 0 {
                return start;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn facts(transaction: Option<(u32, i64)>) -> Headers<'static> {
        Headers {
            op: "u",
            lsn: Lsn(0x16_B374_D848),
            seq: 7,
            transaction,
            unchanged: &[],
            fetched: false,
        }
    }

    fn read(headers: &OwnedHeaders) -> Vec<(String, String)> {
        let headers = headers.as_borrowed();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        headers
            .iter()
            .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_change_says_where_in_which_transaction_it_was() {
        let headers = write(&facts(Some((771, 1_700_000_000_000_001))), None);
        let expected = pairs(&[
            ("hw.op", "u"),
            ("hw.lsn", "16/B374D848"),
            ("hw.seq", "7"),
            ("hw.xid", "771"),
            ("hw.ts", "1700000000000001"),
        ]);
        assert_eq!(read(&headers), expected);
        assert_eq!(unchanged_bytes(Some(headers.as_borrowed())), 0);
        assert_eq!(
            read_lsn(Some(headers.as_borrowed())),
            Some(Lsn(0x16_B374_D848))
        );
    }

    #[test]
    fn a_snapshot_row_has_no_transaction() {
        let expected = pairs(&[("hw.op", "u"), ("hw.lsn", "16/B374D848"), ("hw.seq", "7")]);
        assert_eq!(read(&write(&facts(None), None)), expected);
    }

    #[test]
    fn unchanged_and_fetched_are_said_only_where_they_are_so() {
        let columns = unchanged_text(&["doc", "a,b", "say \"hi\"", "grün"]).unwrap();
        assert_eq!(columns, "doc,\"a,b\",\"say \"\"hi\"\"\",grün");
        let facts = Headers {
            fetched: true,
            ..facts(Some((1, 2)))
        };
        let headers = write(&facts, Some(&columns));
        let expected = pairs(&[("hw.unchanged", &columns), ("hw.fetched", "true")]);
        assert_eq!(read(&headers)[USUAL..], expected);
        assert_eq!(unchanged_bytes(Some(headers.as_borrowed())), columns.len());
        assert_eq!(unchanged_text(&[]), None);
    }

    #[test]
    fn a_record_without_a_readable_lsn_has_none() {
        assert_eq!(read_lsn(None), None);
        let header =
            |value: Option<&'static [u8]>| OwnedHeaders::new().insert(Header { key: LSN, value });
        for value in [None, Some(&b""[..]), Some(b"16"), Some(b"\xff/1")] {
            assert_eq!(
                read_lsn(Some(header(value).as_borrowed())),
                None,
                "{value:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn numbers_read_as_rust_prints_them(number: u64, signed: i64) {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            prop_assert_eq!(text(Text::default().decimal(number)), number.to_string());
            prop_assert_eq!(text(Text::default().signed(signed)), signed.to_string());
            prop_assert_eq!(text(Text::default().lsn(Lsn(number))), Lsn(number).to_string());
        }
    }

    #[test]
    fn the_largest_numbers_fit() {
        assert_eq!(
            Text::default().decimal(u64::MAX),
            u64::MAX.to_string().as_bytes()
        );
        assert_eq!(
            Text::default().signed(i64::MIN),
            i64::MIN.to_string().as_bytes()
        );
        assert_eq!(Text::default().decimal(0), b"0");
        assert_eq!(Text::default().lsn(Lsn(u64::MAX)), b"FFFFFFFF/FFFFFFFF");
    }
}
