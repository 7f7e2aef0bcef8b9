//! A key in Avro as the JSON that a row is looked up by (`super::key`).
//!
//! The server has an index of the key's columns and none of its Avro bytes, and reads the values of
//! columns from their texts. So the texts are made here, by the schema that came with the key. Types
//! that stand in keys are known; a key of others (an array, a range, a composite type) has no such
//! text, and its row cannot be looked up.

use std::fmt::Write;

use num_bigint::BigInt;
use serde_json::Value;

/// What the columns of a key are.
#[derive(Debug, PartialEq)]
pub struct KeySchema(Vec<Column>);

#[derive(Debug, PartialEq)]
struct Column {
    name: String,
    kind: Kind,
}

#[derive(Debug, PartialEq)]
enum Kind {
    Boolean,
    /// `int` and `long` are written alike.
    Long,
    Float,
    Double,
    Text,
    Bytes,
    Decimal(u32),
    Date,
    Time,
    TimestampTz,
    Timestamp,
    Enum(Vec<String>),
    Interval,
    TimeTz,
}

/// Where a datum is read.
struct Datum<'d>(&'d [u8]);

impl KeySchema {
    /// Reads the schema of a key; none where it has a column that has no text.
    pub fn parse(schema: &str) -> Option<Self> {
        let schema: Value = serde_json::from_str(schema).ok()?;
        let fields = schema.get("fields")?.as_array()?;
        let columns = fields.iter().map(|field| {
            let name = unescaped(field.get("name")?.as_str()?)?;
            let kind = kind(field.get("type")?)?;
            Some(Column { name, kind })
        });
        columns.collect::<Option<_>>().map(KeySchema)
    }

    /// The key, without an id before it, as a JSON object of its columns' texts; none for bytes
    /// that are no such key.
    pub fn json(&self, key: &[u8]) -> Option<String> {
        let mut datum = Datum(key);
        let mut text = String::from("{");
        for (number, Column { name, kind }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "," };
            let name = serde_json::to_string(name).ok()?;
            let value = datum.text(kind)?;
            let value = match kind {
                Kind::Boolean | Kind::Long => value,
                _ => serde_json::to_string(&value).ok()?,
            };
            write!(text, "{separator}{name}:{value}").ok()?;
        }
        text.push('}');
        datum.0.is_empty().then_some(text)
    }
}

fn kind(of: &Value) -> Option<Kind> {
    let of_object = |key: &str| of.get(key).and_then(Value::as_str);
    let name = of.as_str().or_else(|| of_object("type"))?;
    Some(match (name, of_object("logicalType")) {
        ("boolean", _) => Kind::Boolean,
        ("int", Some("date")) => Kind::Date,
        ("long", Some("time-micros")) => Kind::Time,
        ("long", Some("timestamp-micros")) => Kind::TimestampTz,
        ("long", Some("local-timestamp-micros")) => Kind::Timestamp,
        ("int" | "long", _) => Kind::Long,
        ("float", _) => Kind::Float,
        ("double", _) => Kind::Double,
        ("string", _) => Kind::Text,
        ("bytes", Some("decimal")) => {
            let scale = of.get("scale").and_then(Value::as_u64).unwrap_or(0);
            Kind::Decimal(u32::try_from(scale).ok()?)
        }
        ("bytes", _) => Kind::Bytes,
        ("enum", _) => {
            let symbols = of.get("symbols")?.as_array()?.iter();
            let symbols = symbols.map(|symbol| unescaped(symbol.as_str()?));
            Kind::Enum(symbols.collect::<Option<_>>()?)
        }
        ("record", _) if of_object("namespace") == Some("headwater") => match of_object("name")? {
            "Interval" => Kind::Interval,
            "TimeTz" => Kind::TimeTz,
            _ => return None,
        },
        _ => return None,
    })
}

/// A name of Postgres, from its escaped form: `_xHH_` stands for a byte.
fn unescaped(name: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        if let [b'_', b'x', high, low, b'_', behind @ ..] = rest
            && let Ok(pair) = std::str::from_utf8(&[*high, *low])
            && let Ok(byte) = u8::from_str_radix(pair, 16)
        {
            bytes.push(byte);
            rest = behind;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

impl<'d> Datum<'d> {
    fn take(&mut self, count: usize) -> Option<&'d [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Avro specification, "Binary Encoding": zig-zag in groups of seven bits, the lowest first.
    fn long(&mut self) -> Option<i64> {
        let mut bits: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'d [u8]> {
        let count = usize::try_from(self.long()?).ok()?;
        self.take(count)
    }

    /// The value as Postgres reads it.
    fn text(&mut self, kind: &Kind) -> Option<String> {
        Some(match kind {
            Kind::Boolean => match self.take(1)? {
                [0] => "false".to_owned(),
                [1] => "true".to_owned(),
                _ => return None,
            },
            Kind::Long => self.long()?.to_string(),
            // Rust's `inf` and `NaN` are Postgres', too, and its digits lead back to the same bits.
            Kind::Float => f32::from_le_bytes(self.take(4)?.try_into().ok()?).to_string(),
            Kind::Double => f64::from_le_bytes(self.take(8)?.try_into().ok()?).to_string(),
            Kind::Text => std::str::from_utf8(self.bytes()?).ok()?.to_owned(),
            Kind::Bytes => hexadecimal(self.bytes()?),
            Kind::Decimal(scale) => {
                format!("{}e-{scale}", BigInt::from_signed_bytes_be(self.bytes()?))
            }
            Kind::Date => match i32::try_from(self.long()?).ok()? {
                i32::MAX => "infinity".to_owned(),
                i32::MIN => "-infinity".to_owned(),
                days => date(i64::from(days), ""),
            },
            Kind::Time => time(self.long()?),
            Kind::TimestampTz => timestamp(self.long()?, "+00"),
            Kind::Timestamp => timestamp(self.long()?, ""),
            Kind::Enum(symbols) => symbols.get(usize::try_from(self.long()?).ok()?)?.clone(),
            Kind::Interval => {
                let (months, days, micros) = (self.long()?, self.long()?, self.long()?);
                format!("{months} mons {days} days {micros} microseconds")
            }
            Kind::TimeTz => {
                let (micros, east) = (self.long()?, self.long()?);
                let sign = if east < 0 { '-' } else { '+' };
                let east = east.unsigned_abs();
                let (hours, minutes, seconds) = (east / 3600, east / 60 % 60, east % 60);
                format!("{}{sign}{hours:02}:{minutes:02}:{seconds:02}", time(micros))
            }
        })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::from("\\x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

const MICROS_A_DAY: i64 = 86_400_000_000;

fn timestamp(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        _ => {
            let of_day = time(micros.rem_euclid(MICROS_A_DAY));
            date(micros.div_euclid(MICROS_A_DAY), &format!(" {of_day}{zone}"))
        }
    }
}

fn time(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!(
        "{:02}:{:02}:{:02}.{:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        micros % 1_000_000
    )
}

/// Days since 1970 in the Gregorian calendar, with the time behind the day: `BC` stands last. Years
/// are counted from March on, so that a leap day is the last of its year; 146097 days are 400 years.
fn date(days: i64, time: &str) -> String {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, carry) = match month_from_march {
        0..10 => (month_from_march + 3, 0),
        _ => (month_from_march - 9, 1),
    };
    let year = year_of_era + era * 400 + carry;
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}{time}"),
        _ => format!("{:04}-{month:02}-{day:02}{time} BC", 1 - year),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn key(fields: &str) -> Option<KeySchema> {
        KeySchema::parse(&format!(
            r#"{{"type":"record","name":"Key","namespace":"public.t","fields":[{fields}]}}"#
        ))
    }

    #[test]
    fn each_column_is_as_postgres_reads_it() {
        let schema = key(
            r#"{"name":"a","type":"int"},{"name":"b_x20_c","type":"string"},
               {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}},
               {"name":"e","type":"bytes"},
               {"name":"f","type":{"type":"int","logicalType":"date"}},
               {"name":"g","type":{"type":"long","logicalType":"timestamp-micros"}},
               {"name":"h","type":"boolean"}"#,
        )
        .unwrap();
        let mut datum = vec![0x03, 0x04, b'h', b'"', 0x02, 0x85, 0x04, 0x00, 0xff, 0x00];
        datum.extend([0x01, 0x01]);
        assert_eq!(
            schema.json(&datum).unwrap(),
            concat!(
                r#"{"a":-2,"b c":"h\"","d":"-123e-2","e":"\\x00ff","f":"1970-01-01","#,
                r#""g":"1969-12-31 23:59:59.999999+00","h":true}"#
            )
        );
        for length in 0..datum.len() {
            assert_eq!(schema.json(&datum[..length]), None, "{length}");
        }
        datum.push(0);
        assert_eq!(schema.json(&datum), None, "a byte too many");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (-719_162, "0001-01-01"),
            (-719_163, "0001-12-31 BC"),
            (-2_440_588, "4714-11-24 BC"),
            (2_932_896, "9999-12-31"),
        ] {
            assert_eq!(date(days, ""), expected, "{days}");
        }
        assert_eq!(timestamp(i64::MAX, "+00"), "infinity");
        assert_eq!(time(86_400_000_000), "24:00:00.000000");
    }

    #[test]
    fn what_has_no_text_is_told() {
        for of in [
            r#"{"type":"array","items":"int"}"#,
            r#"["null","int"]"#,
            r#"{"type":"record","name":"point","namespace":"public","fields":[]}"#,
            "7",
        ] {
            assert_eq!(key(&format!(r#"{{"name":"a","type":{of}}}"#)), None, "{of}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let schema = key(
                r#"{"name":"a","type":{"type":"record","name":"TimeTz","namespace":"headwater","fields":[]}},
                   {"name":"b","type":{"type":"enum","name":"e","symbols":["x"]}},
                   {"name":"c","type":{"type":"long","logicalType":"local-timestamp-micros"}}"#,
            );
            let _ = schema.unwrap().json(&bytes);
        }
    }
}
