//! Documents are stored here by a second, plain implementation of the format, so that
//! shapes can be tried that a server would store only under odd circumstances;
//! `tests/postgres_oracle.rs` has the server's own.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::written;
use super::*;

/// Every so many entries hold an offset.
const STRIDE: usize = 32;

#[derive(Clone, Debug)]
enum Document {
    Null,
    Bool(bool),
    /// A `numeric` of one digit to the base 10000.
    Number(u16),
    String(String),
    Array(Vec<Document>),
    Object(Vec<(String, Document)>),
}

impl Document {
    fn text(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        match self {
            Document::Null => "null".to_owned(),
            Document::Bool(value) => value.to_string(),
            Document::Number(digit) => digit.to_string(),
            Document::String(text) => quoted(text),
            Document::Array(items) => {
                let items: Vec<String> = items.iter().map(Document::text).collect();
                format!("[{}]", items.join(", "))
            }
            Document::Object(pairs) => {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| format!("{}: {}", quoted(key), value.text()))
                    .collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }

    /// The bytes after the varlena header. `short_numbers`: numbers with a header of one
    /// byte, which no server of today writes, but its readers take.
    fn stored(&self, short_numbers: bool) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Document::Array(_) | Document::Object(_) => {
                self.store_container(&mut out, short_numbers)
            }
            scalar => {
                store_entries(&mut out, IS_ARRAY | IS_SCALAR | 1, &[scalar], short_numbers);
            }
        }
        out
    }

    fn store_container(&self, out: &mut Vec<u8>, short_numbers: bool) {
        match self {
            Document::Array(items) => {
                let items: Vec<&Document> = items.iter().collect();
                store_entries(out, IS_ARRAY | items.len() as u32, &items, short_numbers);
            }
            Document::Object(pairs) => {
                let keys: Vec<Document> = pairs
                    .iter()
                    .map(|(key, _)| Document::String(key.clone()))
                    .collect();
                let entries: Vec<&Document> = keys
                    .iter()
                    .chain(pairs.iter().map(|(_, value)| value))
                    .collect();
                store_entries(out, IS_OBJECT | pairs.len() as u32, &entries, short_numbers);
            }
            _ => unreachable!("only containers come here"),
        }
    }

    fn store(&self, out: &mut Vec<u8>, short_numbers: bool) -> u32 {
        match self {
            Document::Null => NULL,
            Document::Bool(true) => TRUE,
            Document::Bool(false) => FALSE,
            Document::String(text) => {
                out.extend_from_slice(text.as_bytes());
                STRING
            }
            Document::Number(digit) => {
                pad(out);
                let payload = [0x8000_u16.to_ne_bytes(), digit.to_ne_bytes()].concat();
                out.extend(if short_numbers {
                    short_header(4)
                } else {
                    plain_header(4)
                });
                out.extend(payload);
                NUMERIC
            }
            Document::Array(_) | Document::Object(_) => {
                pad(out);
                self.store_container(out, short_numbers);
                CONTAINER
            }
        }
    }
}

fn store_entries(out: &mut Vec<u8>, header: u32, entries: &[&Document], short_numbers: bool) {
    out.extend(header.to_ne_bytes());
    let table = out.len();
    out.resize(table + entries.len() * WORD, 0);
    let data = out.len();
    for (index, document) in entries.iter().enumerate() {
        let start = out.len();
        let kind = document.store(out, short_numbers);
        let entry = if index % STRIDE == 0 {
            HAS_OFFSET | kind | (out.len() - data) as u32
        } else {
            kind | (out.len() - start) as u32
        };
        out[table + index * WORD..][..WORD].copy_from_slice(&entry.to_ne_bytes());
    }
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(WORD), 0);
}

fn short_header(payload: u8) -> Vec<u8> {
    let length = payload + 1;
    vec![if cfg!(target_endian = "little") {
        length << 1 | 1
    } else {
        length | 0x80
    }]
}

fn plain_header(payload: u32) -> Vec<u8> {
    let length = payload + 4;
    let word = if cfg!(target_endian = "little") {
        length << 2
    } else {
        length
    };
    word.to_ne_bytes().to_vec()
}

fn printed(container: &[u8]) -> Result<String> {
    let mut result = Ok(());
    let text = written(|out| result = jsonb(out, container));
    result.map(|()| text)
}

fn document() -> impl Strategy<Value = Document> {
    let leaf = prop_oneof![
        Just(Document::Null),
        any::<bool>().prop_map(Document::Bool),
        (0..BASE_OF_NUMERIC).prop_map(Document::Number),
        "[ -~é]{0,9}".prop_map(Document::String),
    ];
    leaf.prop_recursive(4, 200, 70, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..70).prop_map(Document::Array),
            prop::collection::vec(("[a-zé\"]{0,5}", inner), 0..70).prop_map(Document::Object),
        ]
    })
}

const BASE_OF_NUMERIC: u16 = 10_000;

#[test]
fn a_scalar_is_printed_without_brackets() {
    for document in [
        Document::Null,
        Document::Number(7),
        Document::String("x".into()),
    ] {
        assert_eq!(printed(&document.stored(false)), Ok(document.text()));
    }
}

#[test]
fn depth_takes_no_thread_stack() {
    let depth = 100_000;
    let header = (IS_ARRAY | 1).to_ne_bytes();
    let mut stored = Vec::new();
    for level in 1..depth {
        stored.extend(header);
        stored.extend((CONTAINER | ((depth - level) * 8 - 4)).to_ne_bytes());
    }
    stored.extend(IS_ARRAY.to_ne_bytes());
    let depth = depth as usize;
    assert_eq!(printed(&stored), Ok("[".repeat(depth) + &"]".repeat(depth)));
}

#[test]
fn text_longer_than_allowed_is_refused() {
    let stored = Document::Array(vec![Document::Number(1234); 1_000]).stored(false);
    let length = printed(&stored).unwrap().len();
    assert_eq!(jsonb_within(&mut Vec::new(), &stored, length), Ok(()));
    assert_eq!(
        jsonb_within(&mut Vec::new(), &stored, length - 2),
        Err(ValueError::TooLarge)
    );
}

#[test]
fn a_small_value_cannot_print_gigabytes() {
    let long_number = [0_u16, i16::MAX.cast_unsigned(), 1]
        .map(u16::to_ne_bytes)
        .concat();
    let mut stored = (IS_ARRAY | 1_000).to_ne_bytes().to_vec();
    let item = [plain_header(6), long_number, vec![0; 2]].concat();
    stored.extend((NUMERIC | 12).to_ne_bytes().repeat(1_000));
    stored.extend(item.repeat(1_000));
    let mut out = Vec::new();
    assert_eq!(
        jsonb_within(&mut out, &stored, 1 << 20),
        Err(ValueError::TooLarge)
    );
    assert!(out.len() < 2 << 20, "{} bytes were written", out.len());
}

#[test]
fn what_the_server_never_stores_is_an_error() {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect::<Vec<u8>>()
    };
    for malformed in [
        vec![],
        words(&[0]),
        words(&[IS_ARRAY | IS_OBJECT]),
        words(&[IS_SCALAR | 1, NULL]),
        words(&[IS_ARRAY | IS_SCALAR | 2, NULL, NULL]),
        words(&[IS_ARRAY | COUNT_MASK]),
        words(&[IS_OBJECT | 1, NULL, NULL]),
        words(&[IS_ARRAY | 1, STRING | 1]),
        words(&[IS_ARRAY | 1, 0x6000_0000]),
        words(&[IS_ARRAY | 1, NUMERIC]),
        words(&[IS_ARRAY | 1, CONTAINER]),
        words(&[IS_ARRAY | 1, CONTAINER | 8, IS_ARRAY | IS_SCALAR | 1, NULL]),
        words(&[IS_ARRAY | 2, HAS_OFFSET | 4, HAS_OFFSET | 1, 0]),
    ] {
        assert_eq!(
            printed(&malformed),
            Err(ValueError::MalformedJsonb),
            "{malformed:?}"
        );
    }
}

proptest! {
    #[test]
    fn a_document_prints_as_it_is(document in document(), short_numbers: bool) {
        prop_assert_eq!(printed(&document.stored(short_numbers)), Ok(document.text()));
    }

    #[test]
    fn no_corruption_makes_it_panic(
        document in document(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut stored = document.stored(false);
        let _ = jsonb(&mut Vec::new(), &stored[..cut.index(stored.len())]);
        for (place, byte) in changes {
            let place = place.index(stored.len());
            stored[place] = byte;
        }
        let _ = jsonb_within(&mut Vec::new(), &stored, 1 << 20);
    }
}
