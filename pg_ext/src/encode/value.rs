//! JSON from datums: what `row_to_json` says, value by value.

use std::borrow::Cow;

use headwater_protocol::json::{self, ValueError};
use headwater_protocol::options::{Numbers, Output, PluginOptions};

use super::ValueFault;
use super::json::close_object;
use crate::codec::{ArrayCodec, Codec, CompositeCodec};
use crate::pg::{
    Column, Container, ContainerRoom, DataCalls, DatabaseEncoding, Dimension, Elements,
    OutputFunction, OutputSettings, Value, make_room, out_of_memory, push_f32, push_f64,
};

/// Values from this size on are given room by an allocation that may fail: a failed
/// one inside a growing buffer would abort the server. Smaller ones cannot matter.
const FALLIBLE_FROM: usize = 64 * 1024;

/// A buffer of this size is kept with [`ROOM`] ahead. Below it no growth can matter.
const ROOM_FROM: usize = 4 * FALLIBLE_FROM;

/// More than a value takes that is not given room by itself: a text of control characters,
/// six bytes for each.
const ROOM: usize = 8 * FALLIBLE_FROM;

/// A long text goes in pieces of this size, each with room for six times as much. Pieces of
/// 64 KiB made a row of 100 kB take 500 kB of room, which was given back after every write.
const PIECE: usize = 8 * 1024;

/// Turns values into JSON for one session.
pub(crate) struct ValueEncoder {
    encoding: DatabaseEncoding,
    calls: DataCalls,
    /// No line break may stand in the output: those between the tokens of a `json`
    /// value, which keeps its white space as it was written, become spaces.
    one_line: bool,
    /// Whether numbers that a float cannot hold are strings.
    quotes_numbers: bool,
    max_row_bytes: usize,
}

impl ValueEncoder {
    pub(crate) fn new(
        encoding: DatabaseEncoding,
        settings: OutputSettings,
        options: &PluginOptions,
    ) -> Self {
        ValueEncoder {
            encoding,
            calls: DataCalls::new(settings),
            one_line: options.output == Output::Lines,
            quotes_numbers: options.numbers == Numbers::String,
            max_row_bytes: options.max_row_bytes,
        }
    }

    pub(crate) fn encoding(&self) -> DatabaseEncoding {
        self.encoding
    }

    pub(super) fn max_row_bytes(&self) -> usize {
        self.max_row_bytes
    }

    pub(crate) fn calls(&mut self) -> &mut DataCalls {
        &mut self.calls
    }

    /// Appends one value that is there.
    pub(super) fn encode(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut Codec,
        value: Value<'_>,
    ) -> Result<(), ValueFault> {
        // Before anything is expanded: an output function that is given half a gigabyte
        // fails in a way that cannot be caught here.
        if value.expanded_size() > self.max_row_bytes {
            return Err(ValueFault::TooLarge);
        }
        match codec {
            Codec::Bool => {
                let text: &[u8] = if value.bool() { b"true" } else { b"false" };
                out.extend_from_slice(text);
            }
            Codec::Int2 => json::integer(out, i64::from(value.i16())),
            Codec::Int4 => json::integer(out, i64::from(value.i32())),
            Codec::Int8 => self.number(out, |out| {
                json::integer(out, value.i64());
                Ok(())
            })?,
            Codec::Oid => {
                out.push(b'"');
                json::unsigned(out, u64::from(value.u32()));
                out.push(b'"');
            }
            Codec::Xid8 => {
                out.push(b'"');
                json::unsigned(out, value.i64().cast_unsigned());
                out.push(b'"');
            }
            Codec::Float4 => {
                let number = value.f32();
                special_or(out, f64::from(number), |out| push_f32(out, number));
            }
            Codec::Float8 => {
                let number = value.f64();
                special_or(out, number, |out| push_f64(out, number));
            }
            Codec::Numeric | Codec::Decimal(_) => {
                let digits = self.varlena(value)?;
                self.number(out, |out| Ok(json::numeric(out, digits)?))?;
            }
            Codec::Money => json::money(out, value.i64()),
            Codec::Text => {
                let text = self.encoding.to_utf8(self.varlena(value)?)?;
                self.text(out, &text)?;
            }
            Codec::Name => {
                let name = self.name(value)?;
                json::string(out, &name);
            }
            Codec::Char => self.char(value.u8(), |text| json::string(out, text))?,
            Codec::Uuid => json::uuid(out, fixed::<16>(value)?),
            Codec::Date => json::date(out, value.i32()),
            Codec::Time => json::time(out, value.i64()),
            Codec::TimeTz => {
                let (micros, west) = split_timetz(fixed(value)?);
                json::timetz(out, micros, west);
            }
            Codec::Timestamp => json::timestamp(out, value.i64()),
            Codec::TimestampTz => json::timestamptz(out, value.i64()),
            Codec::Interval => interval(out, fixed(value)?),
            Codec::Bytea => {
                let bytes = self.varlena(value)?;
                self.reserve(out, 2 * bytes.len())?;
                json::bytea(out, bytes);
            }
            Codec::Json => {
                let text = self.encoding.to_utf8(self.varlena(value)?)?;
                self.reserve(out, text.len())?;
                if self.one_line {
                    json::json_line(out, &text);
                } else {
                    out.extend_from_slice(&text);
                }
            }
            Codec::Jsonb => {
                let container = self.varlena(value)?;
                self.reserve(out, container.len())?;
                let limit = self.max_row_bytes;
                self.printed(out, |out| json::jsonb_within(out, container, limit))?;
            }
            Codec::Bits => {
                let payload = self.varlena(value)?;
                self.reserve(out, json::bit_length(payload)?)?;
                json::bits(out, payload)?;
            }
            Codec::Inet => json::inet(out, self.varlena(value)?)?,
            Codec::Cidr => json::cidr(out, self.varlena(value)?)?,
            Codec::MacAddr => json::macaddr(out, fixed::<6>(value)?),
            Codec::MacAddr8 => json::macaddr(out, fixed::<8>(value)?),
            Codec::PgLsn => json::pg_lsn(out, value.i64().cast_unsigned()),
            Codec::Tid => json::tid(out, fixed(value)?),
            Codec::Xml(function) => {
                let text = self.varlena(value)?;
                // The output function takes a declaration away, or else a line feed.
                if text.starts_with(b"<?xml") || text.starts_with(b"\n") {
                    self.output(out, function, value)?;
                } else {
                    self.text(out, &self.encoding.to_utf8(text)?)?;
                }
            }
            Codec::Hstore => {
                let payload = self.varlena(value)?;
                self.reserve(out, payload.len())?;
                self.printed(out, |out| json::hstore(out, payload))?;
            }
            Codec::Enum(labels) => {
                let label = labels.label(value.u32(), self.encoding)?;
                out.extend_from_slice(label.ok_or(ValueFault::NoLabel)?);
            }
            Codec::Array(array) => self.array(out, array, value)?,
            Codec::Composite(composite) => {
                // A row type never holds itself: see the codec's module.
                let mut composite = composite
                    .try_borrow_mut()
                    .map_err(|_| ValueFault::WrongLayout)?;
                self.composite(out, &mut composite, value)?;
            }
            // Compiled for Avro alone: JSON has the text of the output function.
            Codec::Range(_) | Codec::Multirange(_) => return Err(ValueFault::WrongLayout),
            Codec::Output(function) => self.output(out, function, value)?,
            Codec::Unnameable => return Err(ValueFault::TypeNotUtf8),
            Codec::TooDeep => return Err(ValueFault::TooDeep),
        }
        Ok(())
    }

    /// Brackets nested as deep as the array has dimensions. Lower bounds have no place.
    fn array(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut ArrayCodec,
        value: Value<'_>,
    ) -> Result<(), ValueFault> {
        let mut room = ContainerRoom::default();
        let container = self.container(out, value, &mut room)?;
        let array = container.array()?;
        if array.element_type != codec.element_type {
            return Err(ValueFault::WrongLayout);
        }
        let mut elements = array.elements(codec.layout);
        let start = out.len();
        self.dimension(out, codec, array.dimensions(), &mut elements, start)
    }

    /// What an array or a row holds, with room for it in `out`.
    pub(super) fn container<'r>(
        &mut self,
        out: &mut Vec<u8>,
        value: Value<'r>,
        room: &'r mut ContainerRoom,
    ) -> Result<Container<'r>, ValueFault> {
        let container = value
            .container(room, &mut self.calls)?
            .ok_or(ValueFault::WrongLayout)?;
        self.reserve(out, container.size())?;
        Ok(container)
    }

    fn dimension(
        &mut self,
        out: &mut Vec<u8>,
        codec: &mut ArrayCodec,
        dimensions: &[Dimension],
        elements: &mut Elements<'_>,
        start: usize,
    ) -> Result<(), ValueFault> {
        out.push(b'[');
        if let Some(((length, _), inner)) = dimensions.split_first() {
            for index in 0..*length {
                if index > 0 {
                    out.push(b',');
                }
                if !inner.is_empty() {
                    self.dimension(out, codec, inner, elements, start)?;
                    continue;
                }
                match elements.next()? {
                    None => out.extend_from_slice(b"null"),
                    Some(element) => self.encode(out, &mut codec.element, element)?,
                }
                self.within_limit(out, start)?;
            }
        }
        out.push(b']');
        Ok(())
    }

    fn composite(
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
            out.extend_from_slice(&attribute.prefix);
            match row.column(attribute.description.attribute) {
                Column::Null => out.extend_from_slice(b"null"),
                // The server stores nothing of a value elsewhere.
                Column::UnchangedToast => return Err(ValueFault::WrongLayout),
                Column::Value(value) => self.encode(out, &mut attribute.codec, value)?,
            }
            self.within_limit(out, start)?;
        }
        close_object(out, start);
        Ok(())
    }

    fn output(
        &mut self,
        out: &mut Vec<u8>,
        function: &mut OutputFunction,
        value: Value<'_>,
    ) -> Result<(), ValueFault> {
        let text = self.output_text(function, value)?;
        self.text(out, &text)
    }

    /// The text of an output function, in UTF-8.
    pub(super) fn output_text<'t>(
        &mut self,
        function: &mut OutputFunction,
        value: Value<'t>,
    ) -> Result<Cow<'t, [u8]>, ValueFault> {
        let text = function
            .call(value, &mut self.calls)
            .map_err(|raised| ValueFault::Raised(raised, Some(function.type_oid())))?
            .ok_or(ValueFault::WrongLayout)?;
        Ok(self.encoding.to_utf8(text)?)
    }

    /// A `name`, in UTF-8.
    pub(super) fn name<'t>(&self, value: Value<'t>) -> Result<Cow<'t, [u8]>, ValueFault> {
        let name = fixed::<64>(value)?;
        let length = name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(name.len());
        Ok(self.encoding.to_utf8(&name[..length])?)
    }

    /// A long text goes piece by piece, each with room for the most that its escapes can
    /// take: the limit is noticed on the way, not behind six times its size.
    fn text(&self, out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueFault> {
        self.reserve(out, text.len())?;
        if text.len() < FALLIBLE_FROM {
            json::string(out, text);
            return Ok(());
        }
        let start = out.len();
        out.push(b'"');
        for piece in text.chunks(PIECE) {
            make_room(out, json::LONGEST_ESCAPE * piece.len() + 1);
            json::string_part(out, piece);
            self.within_limit(out, start)?;
        }
        out.push(b'"');
        Ok(())
    }

    /// Gives a `"char"` to `write` as text: one byte of no encoding. From 16 on the server
    /// prints what is not ASCII as `\ooo`.
    pub(super) fn char(&self, byte: u8, write: impl FnOnce(&[u8])) -> Result<(), ValueFault> {
        if byte.is_ascii() {
            write(if byte == 0 {
                &[]
            } else {
                std::slice::from_ref(&byte)
            });
        } else if cfg!(any(feature = "pg14", feature = "pg15")) {
            write(&self.encoding.to_utf8(&[byte])?);
        } else {
            write(format!("\\{byte:03o}").as_bytes());
        }
        Ok(())
    }

    /// What prints strings in the database's encoding and ASCII around them, converted as one
    /// text.
    pub(super) fn printed(
        &self,
        out: &mut Vec<u8>,
        print: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueError>,
    ) -> Result<(), ValueFault> {
        let start = out.len();
        match print(out) {
            Err(ValueError::OutOfMemory) => out_of_memory(),
            printed => printed?,
        }
        if let Cow::Owned(converted) = self.encoding.to_utf8(&out[start..])? {
            out.truncate(start);
            out.extend_from_slice(&converted);
        }
        Ok(())
    }

    /// A number that may be asked for as a string. NaN and infinities are strings already.
    fn number(
        &self,
        out: &mut Vec<u8>,
        print: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueFault>,
    ) -> Result<(), ValueFault> {
        if !self.quotes_numbers {
            return print(out);
        }
        let start = out.len();
        out.push(b'"');
        print(out)?;
        if out.get(start + 1) == Some(&b'"') {
            out.remove(start);
        } else {
            out.push(b'"');
        }
        Ok(())
    }

    pub(super) fn varlena<'t>(&mut self, value: Value<'t>) -> Result<&'t [u8], ValueFault> {
        let content = value.varlena(&mut self.calls)?;
        content.ok_or(ValueFault::WrongLayout)
    }

    /// Each value is bounded, and the sum of those since `start` in one row, array or row
    /// value: eight bytes may print as 131,072. Makes room for the next one.
    #[inline]
    pub(super) fn within_limit(&self, out: &mut Vec<u8>, start: usize) -> Result<(), ValueFault> {
        if out.len() - start > self.max_row_bytes {
            return Err(ValueFault::TooLarge);
        }
        if out.len() < ROOM_FROM {
            return Ok(());
        }
        make_room(out, ROOM);
        Ok(())
    }

    /// Makes room for a value of `bytes`, which no row may hold past its limit.
    pub(super) fn reserve(&self, out: &mut Vec<u8>, bytes: usize) -> Result<(), ValueFault> {
        if bytes > self.max_row_bytes {
            return Err(ValueFault::TooLarge);
        }
        if bytes >= FALLIBLE_FROM {
            // An eighth for escapes.
            make_room(out, bytes + bytes / 8);
        }
        Ok(())
    }
}

pub(super) fn fixed<const N: usize>(value: Value<'_>) -> Result<&[u8; N], ValueFault> {
    value.fixed().ok_or(ValueFault::WrongLayout)
}

/// `TimeTzADT` in `utils/date.h`: microseconds, and the zone in seconds west of UTC.
pub(super) fn split_timetz(stored: &[u8; 12]) -> (i64, i32) {
    let [a, b, c, d, e, f, g, h, zone @ ..] = *stored;
    let micros = i64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    (micros, i32::from_ne_bytes(zone))
}

/// `Interval` in `datatype/timestamp.h`: months, days and microseconds.
pub(super) fn split_interval(stored: &[u8; 16]) -> (i32, i32, i64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *stored;
    let [i, j, k, l, m, n, o, p] = rest;
    let micros = i64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let days = i32::from_ne_bytes([i, j, k, l]);
    let months = i32::from_ne_bytes([m, n, o, p]);
    (months, days, micros)
}

fn interval(out: &mut Vec<u8>, stored: &[u8; 16]) {
    let (months, days, micros) = split_interval(stored);
    let has_infinity = cfg!(not(any(
        feature = "pg14",
        feature = "pg15",
        feature = "pg16"
    )));
    match (months, days, micros) {
        (i32::MAX, i32::MAX, i64::MAX) if has_infinity => json::infinite_interval(out, false),
        (i32::MIN, i32::MIN, i64::MIN) if has_infinity => json::infinite_interval(out, true),
        _ => json::interval(out, months, days, micros),
    }
}

/// JSON has no NaN and no infinity: they are the strings that Postgres prints.
fn special_or(out: &mut Vec<u8>, number: f64, print: impl FnOnce(&mut Vec<u8>)) {
    let special: &[u8] = if number.is_nan() {
        b"\"NaN\""
    } else if number == f64::INFINITY {
        b"\"Infinity\""
    } else if number == f64::NEG_INFINITY {
        b"\"-Infinity\""
    } else {
        return print(out);
    };
    out.extend_from_slice(special);
}
