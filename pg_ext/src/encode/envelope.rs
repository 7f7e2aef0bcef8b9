//! The `change` envelope as JSON: before, after, source, op.

use headwater_protocol::frame::ReplicaIdentity;
use headwater_protocol::{Lsn, VERSION, json};

use super::{EncodeError, Encoder, RowChange};
use crate::pg::{Row, make_room};
use crate::plan::RelationPlan;

/// Of the prefix of a message that is too large: as much as the frame `q` tells.
const LONGEST_PREFIX_TOLD: usize = u16::MAX as usize;

/// Where a change stands, for its envelope.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// The end of the commit, or the snapshot's consistent point.
    pub(crate) lsn: Lsn,
    /// Position in the transaction.
    pub(crate) seq: u64,
    /// Transaction id and commit time in microseconds since 1970; none in a snapshot and
    /// for a message outside transactions.
    pub(crate) transaction: Option<(u32, i64)>,
    /// Whether a snapshot read it.
    pub(crate) snapshot: bool,
}

impl Encoder {
    /// Appends the envelope of a row's change.
    pub(super) fn envelope_as_json(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(b"{\"before\":");
        match &change.old {
            None => out.extend_from_slice(b"null"),
            Some(old) => self.before(plan, old, out)?,
        }
        self.unchanged.clear();
        out.extend_from_slice(b",\"after\":");
        match &change.new {
            None => out.extend_from_slice(b"null"),
            Some(new) => self.row_as_json(plan, new, change.old.as_ref(), out)?,
        }
        if !self.unchanged.is_empty() {
            out.extend_from_slice(b",\"unchanged\":[");
            for (position, index) in self.unchanged.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                json::string(out, plan.columns[*index].name.as_bytes());
            }
            out.push(b']');
        }
        self.envelope_end(&plan.source, &change.source, change.op.code(), out);
        Ok(())
    }

    /// Appends a truncate's envelope. One that emptied only a partition of the table that
    /// the envelope is about says so.
    pub(super) fn truncate_as_json(&self, plan: &RelationPlan, source: &Source, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"before\":null,\"after\":null");
        if let Some((schema, table)) = &plan.partition {
            out.extend_from_slice(b",\"partition\":{\"schema\":");
            json::string(out, schema.as_bytes());
            out.extend_from_slice(b",\"table\":");
            json::string(out, table.as_bytes());
            out.push(b'}');
        }
        self.envelope_end(&plan.source, source, "t", out);
    }

    /// Appends a logical message's envelope; the content is in base64, as it may be any
    /// bytes. A message larger than a row may be is left without its content: near the
    /// gigabyte that it may have, its base64 would be an ERROR of the server's at every
    /// attempt.
    pub(crate) fn message_envelope(
        &mut self,
        prefix: &str,
        content: &[u8],
        source: &Source,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"{\"message\":{\"prefix\":");
        if let Err(reason) = self.message_room(prefix.len() + content.len(), out) {
            let told = prefix.floor_char_boundary(LONGEST_PREFIX_TOLD);
            json::string(out, &prefix.as_bytes()[..told]);
            out.extend_from_slice(b",\"content\":null},\"quarantined\":");
            json::string(out, reason.to_string().as_bytes());
        } else {
            json::string(out, prefix.as_bytes());
            out.extend_from_slice(b",\"content\":\"");
            base64(out, content);
            out.extend_from_slice(b"\"}");
        }
        self.envelope_end(b"\"schema\":\"\",\"table\":\"\"", source, "m", out);
    }

    /// Makes room for a logical message of so many bytes, which may be nearly a gigabyte:
    /// bounded as a row is, and by an allocation that may fail.
    pub(crate) fn message_room(&self, bytes: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if bytes > self.max_row_bytes {
            return Err(EncodeError::MessageTooLarge {
                limit: self.max_row_bytes,
            });
        }
        // Base64 takes four bytes for three.
        make_room(out, bytes + bytes / 3);
        Ok(())
    }

    /// An old row has all its columns under FULL and the key's alone otherwise: what it
    /// does not have is left out, not null.
    fn before(
        &mut self,
        plan: &mut RelationPlan,
        old: &Row<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if plan.identity == ReplicaIdentity::Full {
            self.row_as_json(plan, old, None, out)
        } else {
            self.key_as_json(plan, old, None, out)
        }
    }

    pub(super) fn envelope_end(
        &self,
        relation: &[u8],
        source: &Source,
        op: &str,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b",\"source\":{\"version\":\"");
        out.extend_from_slice(VERSION.as_bytes());
        out.extend_from_slice(b"\",\"connector\":\"headwater\",\"snapshot\":");
        let snapshot: &[u8] = if source.snapshot {
            b"\"true\""
        } else {
            b"\"false\""
        };
        out.extend_from_slice(snapshot);
        out.extend_from_slice(b",\"db\":");
        out.extend_from_slice(&self.quoted_database);
        out.push(b',');
        out.extend_from_slice(relation);
        out.extend_from_slice(b",\"txId\":");
        match source.transaction {
            None => out.extend_from_slice(b"null,\"ts_ms\":null,\"ts_us\":null"),
            Some((xid, commit_time)) => {
                json::unsigned(out, u64::from(xid));
                out.extend_from_slice(b",\"ts_ms\":");
                json::integer(out, commit_time.div_euclid(1000));
                out.extend_from_slice(b",\"ts_us\":");
                json::integer(out, commit_time);
            }
        }
        out.extend_from_slice(b",\"lsn\":");
        json::unsigned(out, source.lsn.0);
        out.extend_from_slice(b",\"seq\":");
        json::unsigned(out, source.seq);
        out.extend_from_slice(b"},\"op\":\"");
        out.extend_from_slice(op.as_bytes());
        out.extend_from_slice(b"\",\"ts_ms\":");
        match source.transaction {
            None => out.extend_from_slice(b"null"),
            Some((_, commit_time)) => json::integer(out, commit_time.div_euclid(1000)),
        }
        out.push(b'}');
    }
}

/// RFC 4648, with padding.
fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit > chunk.len() {
                out.push(b'=');
            } else {
                out.push(ALPHABET[(group >> (18 - 6 * digit) & 63) as usize]);
            }
        }
    }
}
