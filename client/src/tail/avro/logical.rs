//! Logical types as a person writes them: what the JSON format has for the same value.
//!
//! Avro counts from 1970, Postgres from 2000; at both ends of the range both mean infinity. A number
//! that stands for no date of Postgres is shown as the number.

use apache_avro::types::Value;
use headwater_protocol::json;
use num_bigint::BigInt;

/// From 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400 * 1_000_000;

const MICROS_PER_DAY: i64 = 86_400 * 1_000_000;

/// Writes a value of a logical type; says whether it is of one.
pub(super) fn text(out: &mut Vec<u8>, value: &Value) -> bool {
    match *value {
        Value::Date(days) => date(out, days),
        Value::TimeMicros(micros @ 0..=MICROS_PER_DAY) => json::time(out, micros),
        Value::TimeMicros(micros) => json::integer(out, micros),
        Value::TimestampMicros(micros) => timestamp(out, micros, json::timestamptz),
        Value::LocalTimestampMicros(micros) => timestamp(out, micros, json::timestamp),
        _ => return false,
    }
    true
}

fn date(out: &mut Vec<u8>, days: i32) {
    match days {
        i32::MIN | i32::MAX => json::date(out, days),
        _ => match days.checked_sub(EPOCH_DAYS) {
            Some(i32::MIN) | None => json::integer(out, i64::from(days)),
            Some(since_2000) => json::date(out, since_2000),
        },
    }
}

fn timestamp(out: &mut Vec<u8>, micros: i64, write: fn(&mut Vec<u8>, i64)) {
    match micros {
        i64::MIN | i64::MAX => write(out, micros),
        _ => match micros.checked_sub(EPOCH_MICROS) {
            Some(i64::MIN) | None => json::integer(out, micros),
            Some(since_2000) => write(out, since_2000),
        },
    }
}

/// Writes a decimal from its unscaled value: `-1.50` for -150 of scale 2.
pub(super) fn decimal(out: &mut Vec<u8>, unscaled: &BigInt, scale: usize) {
    let digits = unscaled.magnitude().to_string();
    if unscaled.sign() == num_bigint::Sign::Minus {
        out.push(b'-');
    }
    // At least one digit stands before the point.
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_and_times_are_those_of_the_json_format() {
        let shown = |value: &Value| written(|out| assert!(text(out, value)));
        assert_eq!(shown(&Value::Date(0)), "\"1970-01-01\"");
        assert_eq!(shown(&Value::Date(-1)), "\"1969-12-31\"");
        assert_eq!(shown(&Value::Date(i32::MAX)), "\"infinity\"");
        assert_eq!(shown(&Value::Date(i32::MIN)), "\"-infinity\"");
        assert_eq!(shown(&Value::Date(i32::MIN + 1)), "-2147483647");
        assert_eq!(shown(&Value::TimeMicros(1)), "\"00:00:00.000001\"");
        assert_eq!(shown(&Value::TimeMicros(MICROS_PER_DAY)), "\"24:00:00\"");
        assert_eq!(shown(&Value::TimeMicros(-1)), "-1");
        assert_eq!(
            shown(&Value::TimestampMicros(1_500_000)),
            "\"1970-01-01T00:00:01.5+00:00\""
        );
        assert_eq!(
            shown(&Value::LocalTimestampMicros(-1)),
            "\"1969-12-31T23:59:59.999999\""
        );
        assert_eq!(shown(&Value::TimestampMicros(i64::MIN)), "\"-infinity\"");
        assert_eq!(
            shown(&Value::LocalTimestampMicros(i64::MIN + 1)),
            "-9223372036854775807"
        );
    }

    #[test]
    fn a_decimal_has_all_digits_of_its_scale() {
        let shown = |n: i64, scale| written(|out| decimal(out, &n.into(), scale));
        assert_eq!(shown(150, 2), "1.50");
        assert_eq!(shown(-5, 2), "-0.05");
        assert_eq!(shown(0, 3), "0.000");
        assert_eq!(shown(-1234, 0), "-1234");
    }
}
