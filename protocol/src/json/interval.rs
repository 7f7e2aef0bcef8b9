//! `interval`, as IntervalStyle `postgres` prints it.
//!
//! Three fields that nothing normalises: months, days and microseconds, each with a sign
//! of its own.

use super::datetime::write_fraction;
use super::integer::{TWO_DIGITS, integer, unsigned};

const MICROS_PER_SECOND: u64 = 1_000_000;

/// Writes an `interval` that is finite.
///
/// A field that is zero is left out, a positive one behind a negative one has its sign.
pub fn interval(out: &mut Vec<u8>, months: i32, days: i32, micros: i64) {
    out.push(b'"');
    let start = out.len();
    let mut after_negative = false;
    for (number, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if number == 0 {
            continue;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if after_negative && number > 0 {
            out.push(b'+');
        }
        integer(out, i64::from(number));
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if number != 1 {
            out.push(b's');
        }
        after_negative = number < 0;
    }
    let is_empty = out.len() == start;
    if micros != 0 || is_empty {
        if !is_empty {
            out.push(b' ');
        }
        if micros < 0 {
            out.push(b'-');
        } else if after_negative {
            out.push(b'+');
        }
        write_hours(out, micros.unsigned_abs());
    }
    out.push(b'"');
}

/// Writes an `interval` without end, as servers have it from 17 on.
pub fn infinite_interval(out: &mut Vec<u8>, is_negative: bool) {
    out.extend_from_slice(if is_negative {
        b"\"-infinity\""
    } else {
        b"\"infinity\""
    });
}

/// Hours take as many digits as they need.
fn write_hours(out: &mut Vec<u8>, micros: u64) {
    let (seconds, fraction) = (micros / MICROS_PER_SECOND, micros % MICROS_PER_SECOND);
    let hours = seconds / 3600;
    if hours < 10 {
        out.push(b'0');
    }
    unsigned(out, hours);
    for part in [seconds / 60 % 60, seconds % 60] {
        out.push(b':');
        out.extend_from_slice(&TWO_DIGITS[part as usize]);
    }
    if fraction != 0 {
        write_fraction(out, fraction as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_field_has_its_own_sign() {
        let hour = 3_600 * MICROS_PER_SECOND as i64;
        for (months, days, micros, expected) in [
            (0, 0, 0, "00:00:00"),
            (14, 0, 0, "1 year 2 mons"),
            (-1, 1, 0, "-1 mons +1 day"),
            (-14, 3, -1, "-1 years -2 mons +3 days -00:00:00.000001"),
            (0, -1, hour, "-1 days +01:00:00"),
            (1, 0, 100 * hour + 500_000, "1 mon 100:00:00.5"),
            (-1, 1, hour, "-1 mons +1 day 01:00:00"),
            (0, 0, i64::MIN, "-2562047788:00:54.775808"),
        ] {
            assert_eq!(
                written(|out| interval(out, months, days, micros)),
                format!("\"{expected}\"")
            );
        }
    }

    proptest! {
        #[test]
        fn no_interval_makes_a_writer_panic(months: i32, days: i32, micros: i64) {
            interval(&mut Vec::new(), months, days, micros);
        }
    }
}
