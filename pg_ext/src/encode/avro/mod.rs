//! Rows and keys in Avro's binary encoding: the fields of a record, one behind the other,
//! without names and without lengths (Avro specification, "Binary Encoding").
//!
//! Fields of the key are plain values, any other is a union whose first branch is null. A
//! column whose value is not in the WAL is null in the row; that it is none is said beside it,
//! in the frame and in the envelope.

mod envelope;
mod value;

use headwater_protocol::avro;

use super::{EncodeError, Encoder, present};
use crate::pg::{Column, Place, Row, panic_point};
use crate::plan::{ColumnPlan, RelationPlan};

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Alone.
    Plain,
    /// In a union, behind null.
    Nullable,
    /// The same, as an element of an array: of one that is an array itself there is one form.
    Element,
}

impl ColumnPlan {
    fn slot(&self) -> Slot {
        if self.is_key {
            Slot::Plain
        } else {
            Slot::Nullable
        }
    }
}

impl Encoder {
    pub(super) fn row_as_avro(
        &mut self,
        plan: &mut RelationPlan,
        row: &Row<'_>,
        old: Option<&Row<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.unchanged.clear();
        let start = out.len();
        for (index, column) in plan.columns.iter_mut().enumerate() {
            match present(row, old, column.attribute) {
                Column::Value(value) => {
                    let slot = column.slot();
                    self.values
                        .encode_avro(out, &mut column.codec, value, slot)
                        .and_then(|()| self.values.within_limit(out, start))
                        .map_err(|fault| fault.of(column, &self.values))?;
                }
                missing if column.is_key => return Err(without_key(missing, column)),
                Column::Null => null(out),
                Column::UnchangedToast => {
                    self.unchanged.push(index);
                    null(out);
                }
            }
        }
        panic_point(Place::Encode);
        Ok(())
    }

    pub(super) fn key_as_avro(
        &mut self,
        plan: &mut RelationPlan,
        row: &Row<'_>,
        old: Option<&Row<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        for index in &plan.key {
            let column = &mut plan.columns[*index];
            match present(row, old, column.attribute) {
                Column::Value(value) => self
                    .values
                    .encode_avro(out, &mut column.codec, value, Slot::Plain)
                    .map_err(|fault| fault.of(column, &self.values))?,
                missing => return Err(without_key(missing, column)),
            }
        }
        Ok(())
    }

    /// Appends a row of which only the key is known: every other column is null.
    fn key_as_row(
        &mut self,
        plan: &mut RelationPlan,
        row: &Row<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        for column in &mut plan.columns {
            if !column.is_key {
                null(out);
                continue;
            }
            match row.column(column.attribute) {
                Column::Value(value) => self
                    .values
                    .encode_avro(out, &mut column.codec, value, Slot::Plain)
                    .map_err(|fault| fault.of(column, &self.values))?,
                missing => return Err(without_key(missing, column)),
            }
        }
        Ok(())
    }
}

/// The branch of null.
fn null(out: &mut Vec<u8>) {
    avro::branch(out, avro::NULL);
}

/// The branch behind null. The value follows.
fn not_null(out: &mut Vec<u8>) {
    avro::branch(out, avro::NULL + 1);
}

fn without_key(missing: Column<'_>, column: &ColumnPlan) -> EncodeError {
    let column = column.name.clone();
    match missing {
        Column::UnchangedToast => EncodeError::KeyNotInWal { column },
        _ => EncodeError::NullKey { column },
    }
}
