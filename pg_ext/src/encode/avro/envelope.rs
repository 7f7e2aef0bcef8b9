//! The `change` envelope in Avro: the fields in the order that
//! [`envelope_schema`](avro::envelope_schema) has them.

use headwater_protocol::avro;
use headwater_protocol::frame::ReplicaIdentity;

use super::{not_null, null};
use crate::encode::{EncodeError, Encoder, RowChange, Source};
use crate::pg::Row;
use crate::plan::RelationPlan;

impl Encoder {
    pub(in crate::encode) fn envelope_as_avro(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match &change.old {
            None => null(out),
            Some(old) => {
                not_null(out);
                self.before_as_avro(plan, old, out)?;
            }
        }
        self.unchanged.clear();
        match &change.new {
            None => null(out),
            Some(new) => {
                not_null(out);
                self.row_as_avro(plan, new, change.old.as_ref(), out)?;
            }
        }
        let unchanged = self.unchanged.iter();
        avro::unchanged(
            out,
            unchanged.map(|index| plan.columns[*index].name.as_str()),
        );
        avro::partition(out, None);
        self.avro_envelope_end(plan, &change.source, change.op.code(), out);
        Ok(())
    }

    pub(in crate::encode) fn truncate_as_avro(
        &self,
        plan: &RelationPlan,
        source: &Source,
        out: &mut Vec<u8>,
    ) {
        null(out);
        null(out);
        avro::unchanged(out, std::iter::empty());
        let partition = plan.partition.as_ref();
        avro::partition(out, partition.map(|(schema, table)| (&**schema, &**table)));
        self.avro_envelope_end(plan, source, "t", out);
    }

    /// An old row has all its columns under FULL and the key's alone otherwise.
    fn before_as_avro(
        &mut self,
        plan: &mut RelationPlan,
        old: &Row<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if plan.identity == ReplicaIdentity::Full {
            self.row_as_avro(plan, old, None, out)
        } else {
            self.key_as_row(plan, old, out)
        }
    }

    fn avro_envelope_end(&self, plan: &RelationPlan, source: &Source, op: &str, out: &mut Vec<u8>) {
        let source = avro::Source {
            snapshot: source.snapshot,
            database: &self.database,
            schema: &plan.schema,
            table: &plan.table,
            transaction: source.transaction,
            lsn: source.lsn,
            seq: source.seq,
        };
        avro::envelope_end(out, &source, op);
    }
}
