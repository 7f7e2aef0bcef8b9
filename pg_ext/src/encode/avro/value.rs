//! Avro's binary encoding from datums.
//!
//! What Avro has no form for goes by the text that JSON has, without its quotes: none of these
//! types prints a character that JSON would escape.

use headwater_protocol::avro::ArrayShape;
use headwater_protocol::{avro, json, stored};

use super::{Slot, not_null, null};
use crate::codec::{ArrayCodec, Codec, CompositeCodec, RangeCodec};
use crate::encode::ValueFault;
use crate::encode::value::{ValueEncoder, fixed, split_interval, split_timetz};
use crate::pg::{Column, ContainerRoom, OutputFunction, Value, make_room};

/// More than the length of a text takes, which comes in front of it at last.
const LENGTH_ROOM: usize = 16;

impl ValueEncoder {
    /// Appends one value that is there.
    pub(super) fn encode_avro(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut Codec,
        value: Value<'_>,
        slot: Slot,
    ) -> Result<(), ValueFault> {
        // Before anything is expanded, as for JSON.
        if value.expanded_size() > self.max_row_bytes() {
            return Err(ValueFault::TooLarge);
        }
        // An array is one of two branches by itself.
        if let Codec::Array(array) = codec {
            return self.avro_array(out, array, value, slot);
        }
        if slot != Slot::Plain {
            not_null(out);
        }
        match codec {
            Codec::Bool => avro::boolean(out, value.bool()),
            Codec::Int2 => avro::int(out, i32::from(value.i16())),
            Codec::Int4 => avro::int(out, value.i32()),
            Codec::Int8 => avro::long(out, value.i64()),
            Codec::Oid => avro::long(out, i64::from(value.u32())),
            Codec::Float4 => avro::float(out, value.f32()),
            Codec::Float8 => avro::double(out, value.f64()),
            Codec::Decimal(of) => avro::decimal(out, self.varlena(value)?, *of)?,
            Codec::Numeric => {
                let digits = self.varlena(value)?;
                avro::unquoted(out, |out| json::numeric(out, digits))?;
            }
            Codec::Text => {
                let text = self.varlena(value)?;
                self.avro_text(out, text)?;
            }
            Codec::Bytea => {
                let bytes = self.varlena(value)?;
                self.avro_bytes(out, bytes)?;
            }
            Codec::Date => avro::date(out, value.i32())?,
            Codec::Time => avro::time(out, value.i64()),
            Codec::TimeTz => {
                let (micros, west) = split_timetz(fixed(value)?);
                avro::timetz(out, micros, west);
            }
            Codec::Timestamp | Codec::TimestampTz => avro::timestamp(out, value.i64())?,
            Codec::Interval => {
                let (months, days, micros) = split_interval(fixed(value)?);
                avro::interval(out, months, days, micros);
            }
            Codec::Enum(labels) => {
                let label = labels.label(value.u32(), self.encoding())?;
                out.extend_from_slice(label.ok_or(ValueFault::NoLabel)?);
            }
            Codec::Json => {
                let text = self.varlena(value)?;
                self.avro_text(out, text)?;
            }
            Codec::Jsonb => {
                let container = self.varlena(value)?;
                self.reserve(out, container.len())?;
                let limit = self.max_row_bytes();
                avro::string_with(out, |out| {
                    self.printed(out, |out| json::jsonb_within(out, container, limit))?;
                    make_room(out, LENGTH_ROOM);
                    Ok::<_, ValueFault>(())
                })?;
            }
            Codec::Hstore => {
                let payload = self.varlena(value)?;
                self.reserve(out, payload.len())?;
                avro::hstore(out, payload, |out, text| self.avro_text(out, text))?;
            }
            Codec::Composite(composite) => {
                // A row type never holds itself: see the codec's module.
                let mut composite = composite
                    .try_borrow_mut()
                    .map_err(|_| ValueFault::WrongLayout)?;
                self.avro_record(out, &mut composite, value)?;
            }
            Codec::Range(range) => {
                let mut room = ContainerRoom::default();
                let container = self.container(out, value, &mut room)?;
                let (type_oid, stored) =
                    stored::Range::read(container.payload(), range.layout.as_bound())?;
                if type_oid != range.type_oid {
                    return Err(ValueFault::WrongLayout);
                }
                self.avro_range(out, range, &stored)?;
            }
            Codec::Multirange(range) => self.avro_multirange(out, range, value)?,
            Codec::Output(function) => self.avro_output(out, function, value)?,
            Codec::Xml(function) => {
                let text = self.varlena(value)?;
                // As in JSON.
                if text.starts_with(b"<?xml") || text.starts_with(b"\n") {
                    self.avro_output(out, function, value)?;
                } else {
                    self.avro_text(out, text)?;
                }
            }
            Codec::Name => {
                let name = self.name(value)?;
                avro::bytes(out, &name);
            }
            Codec::Char => self.char(value.u8(), |text| avro::bytes(out, text))?,
            Codec::Bits => {
                let payload = self.varlena(value)?;
                self.reserve(out, json::bit_length(payload)? + LENGTH_ROOM)?;
                avro::unquoted(out, |out| json::bits(out, payload))?;
            }
            // Compiled into no other codec, and dealt with above.
            Codec::Array(_) => return Err(ValueFault::WrongLayout),
            Codec::Unnameable => return Err(ValueFault::TypeNotUtf8),
            Codec::TooDeep => return Err(ValueFault::TooDeep),
            Codec::Xid8
            | Codec::Money
            | Codec::Uuid
            | Codec::Inet
            | Codec::Cidr
            | Codec::MacAddr
            | Codec::MacAddr8
            | Codec::PgLsn
            | Codec::Tid => avro::unquoted(out, |out| self.encode(out, codec, value))?,
        }
        Ok(())
    }

    /// A text in the database's encoding.
    fn avro_text(&self, out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueFault> {
        self.avro_bytes(out, &self.encoding().to_utf8(text)?)
    }

    /// Bytes, or text in UTF-8: the length, then what it is of.
    fn avro_bytes(&self, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
        self.reserve(out, bytes.len())?;
        avro::bytes(out, bytes);
        Ok(())
    }

    fn avro_output(
        &mut self,
        out: &mut Vec<u8>,
        function: &mut OutputFunction,
        value: Value<'_>,
    ) -> Result<(), ValueFault> {
        let text = self.output_text(function, value)?;
        self.avro_bytes(out, &text)
    }

    fn avro_array(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut ArrayCodec,
        value: Value<'_>,
        slot: Slot,
    ) -> Result<(), ValueFault> {
        let mut room = ContainerRoom::default();
        let container = self.container(out, value, &mut room)?;
        let array = container.array()?;
        if array.element_type != codec.element_type {
            return Err(ValueFault::WrongLayout);
        }
        let dimensions = array.dimensions();
        let shape = match slot {
            Slot::Element => ArrayShape::Other,
            Slot::Plain | Slot::Nullable => ArrayShape::of(dimensions),
        };
        match slot {
            Slot::Plain => shape.branch(out, false),
            Slot::Nullable => shape.branch(out, true),
            Slot::Element => not_null(out),
        }
        if shape == ArrayShape::Other {
            avro::dimensions(out, dimensions);
        }
        let mut elements = array.elements(codec.layout);
        let start = out.len();
        let count = array.count();
        avro::begin_items(out, count);
        for _ in 0..count {
            match elements.next()? {
                None => null(out),
                Some(element) => {
                    self.encode_avro(out, &mut codec.element, element, Slot::Element)?;
                }
            }
            self.within_limit(out, start)?;
        }
        avro::end_items(out);
        Ok(())
    }

    fn avro_record(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut CompositeCodec,
        value: Value<'_>,
    ) -> Result<(), ValueFault> {
        let mut room = ContainerRoom::default();
        let container = self.container(out, value, &mut room)?;
        let row = container
            .row(&mut codec.composite)
            .ok_or(ValueFault::WrongLayout)?;
        let start = out.len();
        for attribute in &mut codec.attributes {
            match row.column(attribute.description.attribute) {
                Column::Null => null(out),
                // The server stores nothing of a value elsewhere.
                Column::UnchangedToast => return Err(ValueFault::WrongLayout),
                Column::Value(value) => {
                    self.encode_avro(out, &mut attribute.codec, value, Slot::Nullable)?;
                }
            }
            self.within_limit(out, start)?;
        }
        Ok(())
    }

    fn avro_range(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut RangeCodec,
        range: &stored::Range<'_>,
    ) -> Result<(), ValueFault> {
        let layout = codec.layout;
        // A value writes its branch by itself.
        avro::range(out, range, true, |out, bound| {
            self.encode_avro(out, &mut codec.bound, layout.whole(bound)?, Slot::Nullable)
        })
    }

    fn avro_multirange(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut RangeCodec,
        value: Value<'_>,
    ) -> Result<(), ValueFault> {
        let mut room = ContainerRoom::default();
        let container = self.container(out, value, &mut room)?;
        let (type_oid, ranges) =
            stored::Multirange::read(container.payload(), codec.layout.as_bound())?;
        if type_oid != codec.type_oid {
            return Err(ValueFault::WrongLayout);
        }
        let start = out.len();
        avro::begin_items(out, ranges.len());
        for range in ranges {
            self.avro_range(out, codec, &range?)?;
            self.within_limit(out, start)?;
        }
        avro::end_items(out);
        Ok(())
    }
}
