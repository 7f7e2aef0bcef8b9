//! One record, one line: `[topic TAB] key TAB value [TAB headers]`.

use std::io::{self, BufWriter, Write};

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};

/// What is printed for a key or a value that is absent.
const ABSENT: &[u8] = b"null";

/// Headers that are shown begin with it.
const PREFIX: &str = "hw.";

/// Output is collected up to this size: 64 KiB, what a pipe holds.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes records as lines.
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    topic: bool,
    headers: bool,
}

/// What of a record is printed.
struct Line<'a, H> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Option<&'a H>,
}

impl<W: Write> Printer<W> {
    /// With the topic as a first and the headers as a last column, or without.
    pub(super) fn new(out: W, topic: bool, headers: bool) -> Self {
        Printer {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            topic,
            headers,
        }
    }

    /// Writes a record, which may stay in the buffer, with these texts for its key and its
    /// value.
    pub(super) fn message(
        &mut self,
        message: &BorrowedMessage<'_>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> io::Result<()> {
        let headers = if self.headers {
            message.headers()
        } else {
            None
        };
        self.line(&Line {
            topic: message.topic(),
            key,
            value,
            headers,
        })
    }

    /// Writes what is in the buffer.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line<H: Headers>(&mut self, line: &Line<'_, H>) -> io::Result<()> {
        if self.topic {
            self.out.write_all(line.topic.as_bytes())?;
            self.out.write_all(b"\t")?;
        }
        self.out.write_all(line.key.unwrap_or(ABSENT))?;
        self.out.write_all(b"\t")?;
        self.out.write_all(line.value.unwrap_or(ABSENT))?;
        if self.headers {
            self.out.write_all(b"\t")?;
            serde_json::to_writer(&mut self.out, &object(line.headers))?;
        }
        self.out.write_all(b"\n")
    }
}

/// The headers `hw.*`, in their order, as a JSON object of strings.
fn object<H: Headers>(headers: Option<&H>) -> impl serde::Serialize {
    let mut fields = Fields(Vec::new());
    for header in headers.into_iter().flat_map(Headers::iter) {
        if header.key.starts_with(PREFIX) {
            let value = header
                .value
                .map(|value| String::from_utf8_lossy(value).into_owned());
            fields.0.push((header.key.to_owned(), value));
        }
    }
    fields
}

struct Fields(Vec<(String, Option<String>)>);

impl serde::Serialize for Fields {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rdkafka::message::{BorrowedHeaders, Header, OwnedHeaders};

    fn printed(topic: bool, headers: bool, line: &Line<'_, BorrowedHeaders>) -> String {
        let mut bytes = Vec::new();
        let mut printer = Printer::new(&mut bytes, topic, headers);
        printer.line(line).unwrap();
        printer.flush().unwrap();
        drop(printer);
        String::from_utf8(bytes).unwrap()
    }

    fn line<'a>(
        key: Option<&'a str>,
        value: Option<&'a str>,
        headers: Option<&'a OwnedHeaders>,
    ) -> Line<'a, BorrowedHeaders> {
        Line {
            topic: "test",
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
            headers: headers.map(OwnedHeaders::as_borrowed),
        }
    }

    #[test]
    fn a_record_is_key_tab_value() {
        let row = line(Some(r#"{"id":1}"#), Some(r#"{"id":1,"value":"x"}"#), None);
        assert_eq!(
            printed(false, false, &row),
            "{\"id\":1}\t{\"id\":1,\"value\":\"x\"}\n"
        );
        assert_eq!(
            printed(true, false, &line(Some("k"), Some("v"), None)),
            "test\tk\tv\n"
        );
    }

    #[test]
    fn what_is_absent_is_null_and_what_is_empty_is_empty() {
        assert_eq!(
            printed(false, false, &line(Some("k"), None, None)),
            "k\tnull\n"
        );
        assert_eq!(
            printed(false, false, &line(None, Some("v"), None)),
            "null\tv\n"
        );
        assert_eq!(
            printed(false, false, &line(Some(""), Some(""), None)),
            "\t\n"
        );
    }

    #[test]
    fn headers_are_a_json_object_of_those_that_headwater_writes() {
        let header =
            |headers: OwnedHeaders, key, value: Option<&str>| headers.insert(Header { key, value });
        let mut headers = header(OwnedHeaders::new(), "hw.op", Some("u"));
        headers = header(headers, "trace", Some("x"));
        headers = header(headers, "hw.unchanged", Some("a,\"b\""));
        headers = header(headers, "hw.lsn", None);
        assert_eq!(
            printed(false, true, &line(Some("k"), None, Some(&headers))),
            "k\tnull\t{\"hw.op\":\"u\",\"hw.unchanged\":\"a,\\\"b\\\"\",\"hw.lsn\":null}\n"
        );
        assert_eq!(
            printed(false, true, &line(Some("k"), None, None)),
            "k\tnull\t{}\n"
        );
    }
}
