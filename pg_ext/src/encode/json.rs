//! Rows and keys as JSON objects.

use super::{EncodeError, Encoder, present};
use crate::pg::{Column, Place, Row, panic_point};
use crate::plan::RelationPlan;

impl Encoder {
    /// Appends `{"column":value,…}` with the plan's columns.
    ///
    /// A column whose value is not in the WAL is taken from `old` where that has it, and
    /// is otherwise left out and noted in `self.unchanged`.
    pub(super) fn row_as_json(
        &mut self,
        plan: &mut RelationPlan,
        row: &Row<'_>,
        old: Option<&Row<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.unchanged.clear();
        let start = out.len();
        for (index, column) in plan.columns.iter_mut().enumerate() {
            let value = match present(row, old, column.attribute) {
                Column::UnchangedToast => {
                    self.unchanged.push(index);
                    continue;
                }
                Column::Null => None,
                Column::Value(value) => Some(value),
            };
            out.extend_from_slice(&column.prefix);
            match value {
                None => out.extend_from_slice(b"null"),
                Some(value) => {
                    // Each value is bounded, and here their sum: a row that is too large
                    // is left before all of it stands in memory.
                    self.values
                        .encode(out, &mut column.codec, value)
                        .and_then(|()| self.values.within_limit(out, start))
                        .map_err(|fault| fault.of(column, &self.values))?;
                }
            }
        }
        panic_point(Place::Encode);
        close_object(out, start);
        Ok(())
    }

    /// Appends the key's columns alone. A value that is not in the WAL comes from `old`:
    /// the server logs a key column that is stored out of line with the old row.
    pub(super) fn key_as_json(
        &mut self,
        plan: &mut RelationPlan,
        row: &Row<'_>,
        old: Option<&Row<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        for index in &plan.key {
            let column = &mut plan.columns[*index];
            out.extend_from_slice(&column.prefix);
            match present(row, old, column.attribute) {
                Column::Null => out.extend_from_slice(b"null"),
                Column::UnchangedToast => {
                    return Err(EncodeError::KeyNotInWal {
                        column: column.name.clone(),
                    });
                }
                Column::Value(value) => {
                    self.values
                        .encode(out, &mut column.codec, value)
                        .map_err(|fault| fault.of(column, &self.values))?;
                }
            }
        }
        close_object(out, start);
        Ok(())
    }
}

/// Each member was written with a comma before it; the first one's becomes the brace.
pub(super) fn close_object(out: &mut Vec<u8>, start: usize) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}
