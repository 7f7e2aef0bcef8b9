//! Appends frames to a buffer. The order of fields is that of `frame/read.rs`.
//!
//! A frame is complete when its function returns, or its [`ChangeWriter`] is
//! finished. Truncating the buffer to its length before the call takes it back.

use super::{
    ABSENT, Begin, Change, Commit, FRAME_HEADER_BYTES, Frame, Hello, Message, Op, Quarantine,
    QuarantinedMessage, Relation, Schemas, Stale, Truncate, tag,
};

/// Appends any frame, from its parts.
pub fn frame(buffer: &mut Vec<u8>, frame: &Frame<'_>) {
    match frame {
        Frame::Hello(parts) => hello(buffer, parts),
        Frame::Begin(parts) => begin(buffer, parts),
        Frame::Relation(parts) => relation(buffer, parts),
        Frame::Schemas(parts) => schemas(buffer, parts),
        Frame::Change(parts) => whole_change(buffer, parts),
        Frame::Truncate(parts) => truncate(buffer, parts),
        Frame::Message(parts) => message(buffer, parts),
        Frame::Quarantine(parts) => quarantine(buffer, parts),
        Frame::QuarantinedMessage(parts) => quarantined_message(buffer, parts),
        Frame::Stale(parts) => stale(buffer, parts),
        Frame::Commit(parts) => commit(buffer, parts),
    }
}

/// Appends an `H`.
pub fn hello(buffer: &mut Vec<u8>, hello: &Hello<'_>) {
    let start = start(buffer, tag::HELLO);
    buffer.extend_from_slice(&hello.protocol.to_be_bytes());
    buffer.extend_from_slice(&hello.server_version.to_be_bytes());
    put_text(buffer, hello.plugin_version);
    finish(buffer, start);
}

/// Appends a `B`.
pub fn begin(buffer: &mut Vec<u8>, begin: &Begin) {
    let start = start(buffer, tag::BEGIN);
    buffer.extend_from_slice(&begin.xid.to_be_bytes());
    buffer.extend_from_slice(&begin.commit_lsn.0.to_be_bytes());
    buffer.extend_from_slice(&begin.end_lsn.0.to_be_bytes());
    buffer.extend_from_slice(&begin.commit_time.to_be_bytes());
    finish(buffer, start);
}

/// Appends an `R`.
pub fn relation(buffer: &mut Vec<u8>, relation: &Relation<'_>) {
    let start = start(buffer, tag::RELATION);
    buffer.extend_from_slice(&relation.id.to_be_bytes());
    buffer.push(relation.identity.code());
    put_text(buffer, relation.schema);
    put_text(buffer, relation.table);
    put_count(buffer, relation.columns.len());
    for column in &relation.columns {
        buffer.push(u8::from(column.is_key));
        buffer.extend_from_slice(&column.type_oid.to_be_bytes());
        buffer.extend_from_slice(&column.type_modifier.to_be_bytes());
        put_text(buffer, column.name);
    }
    finish(buffer, start);
}

/// Appends an `A`.
pub fn schemas(buffer: &mut Vec<u8>, schemas: &Schemas<'_>) {
    let start = start(buffer, tag::SCHEMAS);
    buffer.extend_from_slice(&schemas.relation.to_be_bytes());
    put_bytes(buffer, schemas.key.map(str::as_bytes));
    put_bytes(buffer, Some(schemas.value.as_bytes()));
    finish(buffer, start);
}

/// Appends the head of a `c`, `u`, `d` or `r`; the caller then writes its sections.
pub fn change(buffer: &mut Vec<u8>, op: Op, relation: u32, seq: u64) -> ChangeWriter {
    let start = start(buffer, op.tag());
    buffer.extend_from_slice(&relation.to_be_bytes());
    buffer.extend_from_slice(&seq.to_be_bytes());
    ChangeWriter { start }
}

/// Appends a change whose key and value are encoded already. The encoder does not
/// come here: it encodes between the sections of [`change`], without a copy.
fn whole_change(buffer: &mut Vec<u8>, parts: &Change<'_>) {
    let writer = change(buffer, parts.op, parts.relation, parts.seq);
    for bytes in [parts.key, parts.old_key, parts.value] {
        put_bytes(buffer, bytes);
    }
    writer.finish(buffer, parts.unchanged.iter().copied());
}

/// Appends a `t`.
pub fn truncate(buffer: &mut Vec<u8>, truncate: &Truncate<'_>) {
    let start = start(buffer, tag::TRUNCATE);
    buffer.extend_from_slice(&truncate.seq.to_be_bytes());
    let flags = [
        truncate.cascade,
        truncate.restart_identity,
        !truncate.partitions.is_empty(),
    ];
    buffer.push(
        (0..)
            .zip(flags)
            .map(|(bit, set)| u8::from(set) << bit)
            .sum(),
    );
    buffer.extend_from_slice(&length(truncate.relations.len()).to_be_bytes());
    for (relation, envelope) in &truncate.relations {
        buffer.extend_from_slice(&relation.to_be_bytes());
        put_bytes(buffer, *envelope);
    }
    for (schema, table) in &truncate.partitions {
        put_text(buffer, schema);
        put_text(buffer, table);
    }
    finish(buffer, start);
}

/// Appends an `m`.
pub fn message(buffer: &mut Vec<u8>, message: &Message<'_>) {
    let start = start(buffer, tag::MESSAGE);
    buffer.push(u8::from(message.transactional));
    buffer.extend_from_slice(&message.lsn.0.to_be_bytes());
    buffer.extend_from_slice(&message.seq.to_be_bytes());
    put_bytes(buffer, Some(message.prefix.as_bytes()));
    put_bytes(buffer, Some(message.content));
    finish(buffer, start);
}

/// Appends a `Q`.
pub fn quarantine(buffer: &mut Vec<u8>, quarantine: &Quarantine<'_>) {
    let start = start(buffer, tag::QUARANTINE);
    buffer.extend_from_slice(&quarantine.relation.to_be_bytes());
    buffer.push(quarantine.op.tag());
    buffer.extend_from_slice(&quarantine.seq.to_be_bytes());
    put_bytes(buffer, quarantine.key);
    put_text(buffer, quarantine.reason);
    finish(buffer, start);
}

/// Appends a `q`.
pub fn quarantined_message(buffer: &mut Vec<u8>, message: &QuarantinedMessage<'_>) {
    let start = start(buffer, tag::QUARANTINED_MESSAGE);
    buffer.push(u8::from(message.transactional));
    buffer.extend_from_slice(&message.lsn.0.to_be_bytes());
    buffer.extend_from_slice(&message.seq.to_be_bytes());
    put_text(buffer, message.prefix);
    put_text(buffer, message.reason);
    finish(buffer, start);
}

/// Appends an `S`.
pub fn stale(buffer: &mut Vec<u8>, stale: &Stale<'_>) {
    let start = start(buffer, tag::STALE);
    buffer.extend_from_slice(&stale.relation.to_be_bytes());
    buffer.push(u8::from(stale.gone));
    put_text(buffer, stale.reason);
    finish(buffer, start);
}

/// Appends an `E`.
pub fn commit(buffer: &mut Vec<u8>, commit: &Commit) {
    let start = start(buffer, tag::COMMIT);
    buffer.extend_from_slice(&commit.end_lsn.0.to_be_bytes());
    buffer.extend_from_slice(&commit.changes.to_be_bytes());
    finish(buffer, start);
}

/// A change whose head is written. Its sections follow in this order, each once:
/// key, old key, value, then [`ChangeWriter::finish`] with the unchanged columns.
#[must_use = "an unfinished change leaves a frame without its length"]
pub struct ChangeWriter {
    start: usize,
}

impl ChangeWriter {
    /// Begins a byte string; what is appended until [`Section::end`] is its content.
    pub fn section(&self, buffer: &mut Vec<u8>) -> Section {
        let start = buffer.len();
        buffer.extend_from_slice(&ABSENT.to_be_bytes());
        Section { start }
    }

    /// A byte string that is not there.
    pub fn absent(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&ABSENT.to_be_bytes());
    }

    /// Completes the frame.
    pub fn finish<'n>(
        self,
        buffer: &mut Vec<u8>,
        unchanged: impl ExactSizeIterator<Item = &'n str>,
    ) {
        put_count(buffer, unchanged.len());
        for name in unchanged {
            put_text(buffer, name);
        }
        finish(buffer, self.start);
    }
}

/// A byte string under way.
#[must_use = "a section without its end reads as absent"]
pub struct Section {
    start: usize,
}

impl Section {
    /// Where the content begins in the buffer.
    pub fn content_start(&self) -> usize {
        self.start + size_of::<u32>()
    }

    /// Completes the byte string with everything appended since it began.
    pub fn end(self, buffer: &mut [u8]) {
        let length = length(buffer.len() - self.content_start());
        buffer[self.start..self.content_start()].copy_from_slice(&length.to_be_bytes());
    }
}

fn start(buffer: &mut Vec<u8>, tag: u8) -> usize {
    let start = buffer.len();
    buffer.push(tag);
    buffer.extend_from_slice(&0_u32.to_be_bytes());
    start
}

fn finish(buffer: &mut [u8], start: usize) {
    let body = start + FRAME_HEADER_BYTES;
    let length = length(buffer.len() - body);
    buffer[start + 1..body].copy_from_slice(&length.to_be_bytes());
}

/// The server's allocator ends at 1 GiB and `max_row_bytes` far before, so that no
/// length comes near the end of 32 bits. One that did would saturate, which a reader
/// takes for a cut frame, and not wrap around into one that it would believe.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(ABSENT - 1)
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => buffer.extend_from_slice(&ABSENT.to_be_bytes()),
        Some(bytes) => {
            buffer.extend_from_slice(&length(bytes.len()).to_be_bytes());
            buffer.extend_from_slice(bytes);
        }
    }
}

/// Names have 63 bytes at most and reasons are short; a longer text than 64 KiB, such as
/// the prefix of a message can be, is cut between two characters.
fn put_text(buffer: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    put_count(buffer, text.len());
    buffer.extend_from_slice(text.as_bytes());
}

/// Counts columns, of which a table has 1,600 at most, or the bytes of a text.
fn put_count(buffer: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    buffer.extend_from_slice(&count.to_be_bytes());
}
