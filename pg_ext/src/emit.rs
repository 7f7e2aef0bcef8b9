//! Bytes on their way out, packed.
//!
//! A walsender flushes its socket at every `OutputPluginWrite`: one `send` a row costs
//! more than everything else together. So the rows of one transaction share writes of
//! about `batch_bytes`. Nothing is held past the commit: the last write of a transaction
//! leaves with it.
//!
//! The SQL interface makes a row of its result from each write, so there every line is
//! written by itself. Such a row is a `text` in the database's encoding; where that is not
//! UTF-8, what is not ASCII is written as JSON's escapes, which are the same in all.

use headwater_protocol::options::{Output, PluginOptions};

use crate::pg::{DatabaseEncoding, Writer};

/// Room that is kept for rows that are as large as the last ones were. Memory that is given
/// back and asked for again is memory that the kernel has to clear, page by page.
const KEPT: usize = 1 << 20;

/// What is ready and not yet written.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    limit: usize,
    packed: bool,
    lines: bool,
    ascii: bool,
    /// Writes since the transaction began.
    writes: u64,
}

impl Batch {
    /// `packed` says whether several changes may share a write.
    pub(crate) fn new(options: &PluginOptions, packed: bool, encoding: DatabaseEncoding) -> Self {
        let lines = options.output == Output::Lines;
        Batch {
            bytes: Vec::new(),
            limit: options.batch_bytes,
            packed,
            lines,
            ascii: lines && !packed && encoding != DatabaseEncoding::Utf8,
            writes: 0,
        }
    }

    /// Appends what `append` writes and sends the batch when it is full. In lines, the
    /// end of the line before is added first; the reader adds the last one itself.
    ///
    /// What `append` leaves out leaves no trace.
    pub(crate) fn append<T>(
        &mut self,
        writer: &mut Writer<'_>,
        append: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        let before = self.bytes.len();
        if self.lines && before > 0 {
            self.bytes.push(b'\n');
        }
        let start = self.bytes.len();
        let result = append(&mut self.bytes);
        if self.bytes.len() == start {
            self.bytes.truncate(before);
        }
        if !self.packed || self.bytes.len() >= self.limit {
            self.send(writer);
        }
        result
    }

    /// Appends frames that belong to the next one, such as a relation ahead of its row.
    pub(crate) fn lead(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.bytes);
    }

    /// Sends everything.
    pub(crate) fn send(&mut self, writer: &mut Writer<'_>) {
        if self.bytes.is_empty() {
            return;
        }
        if self.ascii {
            writer.write(&escaped(&self.bytes));
        } else {
            writer.write(&self.bytes);
        }
        self.writes += 1;
        let room = self.limit.max(self.bytes.len().min(KEPT));
        self.bytes.clear();
        // One giant row must not be paid for until the connection ends.
        if self.bytes.capacity() > 4 * room {
            self.bytes.shrink_to(2 * room);
        }
    }

    /// Writes since the transaction began.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// Sends everything and says whether the transaction wrote at all.
    pub(crate) fn finish_transaction(&mut self, writer: &mut Writer<'_>) -> bool {
        self.send(writer);
        std::mem::take(&mut self.writes) > 0
    }
}

/// JSON with every character outside ASCII as `\uXXXX`. It can stand only in a string.
pub(crate) fn escaped(json: &[u8]) -> Vec<u8> {
    let mut ascii = Vec::with_capacity(json.len());
    for character in String::from_utf8_lossy(json).chars() {
        if character.is_ascii() {
            ascii.push(character as u8);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                ascii.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        }
    }
    ascii
}
