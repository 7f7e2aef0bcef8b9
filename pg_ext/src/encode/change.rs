//! A row's change in the two outputs: a frame for the client, a line for people.

use headwater_protocol::frame::{Op, Quarantine, write};
use headwater_protocol::json;
use headwater_protocol::options::Envelope;

use super::{EncodeError, Encoder, RowChange};
use crate::pg::report_quarantine;
use crate::plan::RelationPlan;

/// Appends one form of a change.
type Encode =
    fn(&mut Encoder, &mut RelationPlan, &RowChange<'_>, &mut Vec<u8>) -> Result<(), EncodeError>;

impl Encoder {
    /// Appends a change frame. After an error the buffer is as it was.
    pub(crate) fn frame(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.wholly(plan, change, out, Encoder::change_frame)
    }

    /// Appends a line, without its end. After an error the buffer is as it was.
    pub(crate) fn line(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let encode = match self.envelope {
            Envelope::Change => Encoder::envelope,
            Envelope::Row => Encoder::row_lines,
        };
        self.wholly(plan, change, out, encode)
    }

    /// All that `encode` appends, or nothing.
    fn wholly(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
        encode: Encode,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let result = can_be_said(plan, change)
            .and_then(|()| self.contain(|encoder| encode(encoder, plan, change, out)))
            .and_then(|()| self.within_limit(out.len() - start));
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Appends a quarantine frame in place of a change that failed.
    pub(crate) fn quarantine_frame(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        reason: &EncodeError,
        out: &mut Vec<u8>,
    ) {
        let (has_key, key) = self.key_if_any(plan, change);
        write::quarantine(
            out,
            &Quarantine {
                relation: plan.id,
                op: change.op,
                seq: change.source.seq,
                key: has_key.then_some(key.as_slice()),
                reason: &reason.to_string(),
            },
        );
        self.new_key = key;
    }

    /// Appends a line in place of a change that failed. Key and row alone have no place
    /// for it: there the change is absent, and the server's log names it.
    pub(crate) fn quarantine_line(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        reason: &EncodeError,
        out: &mut Vec<u8>,
    ) {
        report_quarantine(
            &plan.schema,
            &plan.table,
            change.source.lsn,
            change.source.seq,
            reason,
        );
        if self.envelope == Envelope::Row {
            return;
        }
        out.extend_from_slice(b"{\"before\":null,\"after\":null,\"key\":");
        let (has_key, key) = self.key_if_any(plan, change);
        out.extend_from_slice(if has_key { &key } else { b"null" });
        self.new_key = key;
        out.extend_from_slice(b",\"quarantined\":");
        json::string(out, reason.to_string().as_bytes());
        self.envelope_end(&plan.source, &change.source, change.op.code(), out);
    }

    /// The key of a change that failed, unless it was the key that did. The caller gives
    /// the buffer back.
    fn key_if_any(&mut self, plan: &mut RelationPlan, change: &RowChange<'_>) -> (bool, Vec<u8>) {
        let mut key = std::mem::take(&mut self.new_key);
        let has_key = self
            .contain(|encoder| encoder.current_key(plan, change, &mut key))
            .unwrap_or(false);
        (has_key, key)
    }

    fn change_frame(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let (has_key, key_changed) = self.keys(plan, change)?;
        let frame = write::change(out, change.op, plan.id, change.source.seq);
        for (present, key) in [(has_key, &self.new_key), (key_changed, &self.old_key)] {
            if present {
                let section = frame.section(out);
                out.extend_from_slice(key);
                section.end(out);
            } else {
                frame.absent(out);
            }
        }

        self.unchanged.clear();
        match (self.envelope, &change.new) {
            (Envelope::Row, None) => frame.absent(out),
            (Envelope::Row, Some(new)) => {
                let section = frame.section(out);
                self.row(plan, new, change.old.as_ref(), out)?;
                section.end(out);
            }
            (Envelope::Change, _) => {
                let section = frame.section(out);
                self.envelope(plan, change, out)?;
                section.end(out);
            }
        }
        frame.finish(
            out,
            self.unchanged
                .iter()
                .map(|index| plan.columns[*index].name.as_str()),
        );
        Ok(())
    }

    /// Key, TAB, row: a tombstone for the old key first where the key changed.
    fn row_lines(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let (has_key, key_changed) = self.keys(plan, change)?;
        if key_changed {
            out.extend_from_slice(&self.old_key);
            out.extend_from_slice(b"\t\n");
        }
        if has_key {
            out.extend_from_slice(&self.new_key);
        }
        out.push(b'\t');
        match &change.new {
            // Without its key the line would say nothing.
            None if !has_key => Err(EncodeError::DeleteWithoutKey),
            None => Ok(()),
            Some(new) => self.row(plan, new, change.old.as_ref(), out),
        }
    }

    /// Encodes into `self.new_key` the key that the row has after the change (before it,
    /// for a delete), and for an update into `self.old_key` the one it had. Says whether
    /// there is a key, and whether the update changed it.
    fn keys(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
    ) -> Result<(bool, bool), EncodeError> {
        // Out of `self` while it encodes, and back in on every path.
        let mut new_key = std::mem::take(&mut self.new_key);
        let mut old_key = std::mem::take(&mut self.old_key);
        let keys = self.encode_keys(plan, change, &mut new_key, &mut old_key);
        self.new_key = new_key;
        self.old_key = old_key;
        keys
    }

    fn encode_keys(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        new_key: &mut Vec<u8>,
        old_key: &mut Vec<u8>,
    ) -> Result<(bool, bool), EncodeError> {
        let has_key = self.current_key(plan, change, new_key)?;
        let (Op::Update, true, Some(old)) = (change.op, has_key, &change.old) else {
            return Ok((has_key, false));
        };
        old_key.clear();
        self.key(plan, old, None, old_key)?;
        Ok((true, old_key != new_key))
    }

    fn current_key(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        key: &mut Vec<u8>,
    ) -> Result<bool, EncodeError> {
        key.clear();
        let (row, old) = match (&change.new, &change.old) {
            (Some(new), old) => (new, old.as_ref()),
            (None, Some(old)) if plan.old_rows_have_key => (old, None),
            (None, _) => return Ok(false),
        };
        if plan.key.is_empty() {
            return Ok(false);
        }
        self.key(plan, row, old, key)?;
        Ok(true)
    }

    pub(super) fn within_limit(&self, bytes: usize) -> Result<(), EncodeError> {
        if bytes <= self.max_row_bytes {
            Ok(())
        } else {
            Err(EncodeError::TooLarge {
                limit: self.max_row_bytes,
            })
        }
    }
}

/// Refuses a change that would say something wrong, whatever its values are.
fn can_be_said(plan: &RelationPlan, change: &RowChange<'_>) -> Result<(), EncodeError> {
    if !plan.names_are_exact {
        return Err(EncodeError::NameNotUtf8);
    }
    if plan.key_is_excluded {
        return Err(EncodeError::KeyExcluded);
    }
    old_row_suffices(plan, change)
}

/// Refuses a change that leaves it unknown which key the row had: a record under the key
/// that is left would be a wrong one, or the old one would live on.
///
/// Of a table by itself the key is what old rows bring. A partition has an identity of its
/// own, which may bring less than the key of its table.
fn old_row_suffices(plan: &RelationPlan, change: &RowChange<'_>) -> Result<(), EncodeError> {
    if plan.key.is_empty() || !matches!(change.op, Op::Update | Op::Delete) {
        return Ok(());
    }
    match &plan.partition {
        Some((schema, table)) if !plan.old_rows_have_key => Err(EncodeError::KeyNotInOldRow {
            partition: format!("\"{schema}.{table}\""),
        }),
        _ if change.op == Op::Delete && change.old.is_none() => Err(EncodeError::OldRowNotInWal),
        _ => Ok(()),
    }
}
