//! JSON from datums: what `row_to_json` says, value by value.

use headwater_protocol::json;
use headwater_protocol::options::{Output, PluginOptions};

use super::ValueFault;
use crate::pg::{DatabaseEncoding, OutputSettings, Value, push_f32, push_f64};
use crate::plan::Codec;

/// Values from this size on are given room by an allocation that may fail: a failed
/// one inside a growing buffer would abort the server. Smaller ones cannot matter.
const FALLIBLE_FROM: usize = 64 * 1024;

/// Turns values into JSON for one session.
pub(crate) struct ValueEncoder {
    encoding: DatabaseEncoding,
    settings: OutputSettings,
    /// No line break may stand in the output: those between the tokens of a `json`
    /// value, which keeps its white space as it was written, become spaces.
    one_line: bool,
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
            settings,
            one_line: options.output == Output::Lines,
            max_row_bytes: options.max_row_bytes,
        }
    }

    pub(crate) fn encoding(&self) -> DatabaseEncoding {
        self.encoding
    }

    pub(crate) fn settings(&mut self) -> &mut OutputSettings {
        &mut self.settings
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
            Codec::Int8 => json::integer(out, value.i64()),
            Codec::Oid => {
                out.push(b'"');
                json::unsigned(out, u64::from(value.u32()));
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
            Codec::Numeric => json::numeric(out, varlena(value)?)?,
            Codec::Text => {
                let text = self.encoding.to_utf8(varlena(value)?)?;
                self.reserve(out, text.len())?;
                json::string(out, &text);
            }
            Codec::Name => {
                let name = fixed::<64>(value)?;
                let length = name
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(name.len());
                json::string(out, &self.encoding.to_utf8(&name[..length])?);
            }
            Codec::Uuid => json::uuid(out, fixed::<16>(value)?),
            Codec::Date => json::date(out, value.i32()),
            Codec::Time => json::time(out, value.i64()),
            Codec::TimeTz => {
                // TimeTzADT: microseconds, then the zone in seconds west of UTC.
                let [a, b, c, d, e, f, g, h, zone @ ..] = *fixed::<12>(value)?;
                let micros = i64::from_ne_bytes([a, b, c, d, e, f, g, h]);
                json::timetz(out, micros, i32::from_ne_bytes(zone));
            }
            Codec::Timestamp => json::timestamp(out, value.i64()),
            Codec::TimestampTz => json::timestamptz(out, value.i64()),
            Codec::Bytea => {
                let bytes = varlena(value)?;
                self.reserve(out, 2 * bytes.len())?;
                json::bytea(out, bytes);
            }
            Codec::Json => {
                let text = self.encoding.to_utf8(varlena(value)?)?;
                self.reserve(out, text.len())?;
                if self.one_line {
                    json::json_line(out, &text);
                } else {
                    out.extend_from_slice(&text);
                }
            }
            Codec::Jsonb => {
                let container = varlena(value)?;
                self.reserve(out, container.len())?;
                self.jsonb(out, container)?;
            }
            Codec::Output(function) => {
                let text = self
                    .encoding
                    .to_utf8(function.call(value, &mut self.settings))?;
                self.reserve(out, text.len())?;
                json::string(out, &text);
            }
        }
        Ok(())
    }

    /// The strings inside a jsonb are in the database's encoding; its structure is ASCII,
    /// so the printed whole converts as one text.
    fn jsonb(&self, out: &mut Vec<u8>, container: &[u8]) -> Result<(), ValueFault> {
        if self.encoding == DatabaseEncoding::Utf8 {
            return Ok(json::jsonb_within(out, container, self.max_row_bytes)?);
        }
        let mut printed = Vec::new();
        json::jsonb_within(&mut printed, container, self.max_row_bytes)?;
        out.extend_from_slice(&self.encoding.to_utf8(&printed)?);
        Ok(())
    }

    /// Makes room for a value of `bytes`, which no row may hold past its limit.
    fn reserve(&self, out: &mut Vec<u8>, bytes: usize) -> Result<(), ValueFault> {
        if bytes > self.max_row_bytes {
            return Err(ValueFault::TooLarge);
        }
        if bytes >= FALLIBLE_FROM {
            // An eighth for escapes.
            out.try_reserve(bytes + bytes / 8)
                .map_err(|_| ValueFault::OutOfMemory(bytes))?;
        }
        Ok(())
    }
}

fn varlena(value: Value<'_>) -> Result<&[u8], ValueFault> {
    value.varlena().ok_or(ValueFault::WrongLayout)
}

fn fixed<const N: usize>(value: Value<'_>) -> Result<&[u8; N], ValueFault> {
    value.fixed().ok_or(ValueFault::WrongLayout)
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
