//! Dates and times, as `row_to_json` prints them: ISO 8601 with a `T`, whatever DateStyle.
//!
//! Postgres counts from 2000-01-01: days in a `date`, microseconds in a `timestamp`. Both
//! ends of the range mean infinity. Years are printed with four digits at least, years
//! before 1 as ` BC`, where 1 BC is the year 0 of the arithmetic.
//!
//! A value outside the range that Postgres accepts, which only a corrupted page
//! holds, prints something of no meaning.

use super::integer::{TWO_DIGITS, unsigned};

const MICROS_PER_SECOND: u64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND as i64;

/// Days from 0000-03-01 to 2000-01-01.
const POSTGRES_EPOCH: i64 = 730_425;

/// Writes a `date` from its days since 2000-01-01.
pub fn date(out: &mut Vec<u8>, days: i32) {
    match days {
        i32::MIN => out.extend_from_slice(MINUS_INFINITY),
        i32::MAX => out.extend_from_slice(INFINITY),
        _ => {
            let date = Date::from_days(i64::from(days));
            out.push(b'"');
            date.write(out);
            date.write_era(out);
            out.push(b'"');
        }
    }
}

/// Writes a `time` from its microseconds since midnight, 24:00:00 included.
pub fn time(out: &mut Vec<u8>, micros: i64) {
    out.push(b'"');
    write_time(out, micros);
    out.push(b'"');
}

/// Writes a `timetz` from its microseconds since midnight and its zone, in seconds west of
/// Greenwich as Postgres stores it, printed with minutes and seconds only where they
/// are not zero.
pub fn timetz(out: &mut Vec<u8>, micros: i64, zone_seconds_west: i32) {
    out.push(b'"');
    write_time(out, micros);
    out.push(if zone_seconds_west <= 0 { b'+' } else { b'-' });
    let offset = zone_seconds_west.unsigned_abs();
    let (hours, minutes, seconds) = (offset / 3600, offset / 60 % 60, offset % 60);
    out.extend_from_slice(&two_digits(hours));
    if minutes != 0 || seconds != 0 {
        out.push(b':');
        out.extend_from_slice(&two_digits(minutes));
    }
    if seconds != 0 {
        out.push(b':');
        out.extend_from_slice(&two_digits(seconds));
    }
    out.push(b'"');
}

/// Writes a `timestamp` from its microseconds since 2000-01-01.
pub fn timestamp(out: &mut Vec<u8>, micros: i64) {
    write_timestamp(out, micros, b"");
}

/// Writes a `timestamptz` from its microseconds since 2000-01-01 UTC, in UTC.
pub fn timestamptz(out: &mut Vec<u8>, micros: i64) {
    write_timestamp(out, micros, b"+00:00");
}

const INFINITY: &[u8] = br#""infinity""#;
const MINUS_INFINITY: &[u8] = br#""-infinity""#;

fn write_timestamp(out: &mut Vec<u8>, micros: i64, zone: &[u8]) {
    match micros {
        i64::MIN => out.extend_from_slice(MINUS_INFINITY),
        i64::MAX => out.extend_from_slice(INFINITY),
        _ => {
            let date = Date::from_days(micros.div_euclid(MICROS_PER_DAY));
            out.push(b'"');
            date.write(out);
            out.push(b'T');
            write_time(out, micros.rem_euclid(MICROS_PER_DAY));
            out.extend_from_slice(zone);
            date.write_era(out);
            out.push(b'"');
        }
    }
}

/// A day of the proleptic Gregorian calendar.
struct Date {
    /// 0 is 1 BC.
    year: i64,
    month: u32,
    day: u32,
}

impl Date {
    /// The calendar repeats every 400 years. Within them, years that begin in March have
    /// their leap day last, so that a year's length falls out of a division, and the
    /// months from March have lengths that 153 days in 5 months generate.
    fn from_days(days: i64) -> Date {
        const DAYS_PER_ERA: i64 = 146_097;
        let days = days + POSTGRES_EPOCH;
        let era = days.div_euclid(DAYS_PER_ERA);
        let day_of_era = days.rem_euclid(DAYS_PER_ERA) as u32;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let is_next_year = month_from_march >= 10;
        Date {
            year: era * 400 + i64::from(year_of_era) + i64::from(is_next_year),
            month: if is_next_year {
                month_from_march - 9
            } else {
                month_from_march + 3
            },
            day,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let year = if self.year > 0 {
            self.year
        } else {
            1 - self.year
        }
        .unsigned_abs();
        if year < 10_000 {
            out.extend_from_slice(&two_digits(year as u32 / 100));
            out.extend_from_slice(&two_digits(year as u32 % 100));
        } else {
            unsigned(out, year);
        }
        let [[m0, m1], [d0, d1]] = [two_digits(self.month), two_digits(self.day)];
        out.extend_from_slice(&[b'-', m0, m1, b'-', d0, d1]);
    }

    fn write_era(&self, out: &mut Vec<u8>) {
        if self.year <= 0 {
            out.extend_from_slice(b" BC");
        }
    }
}

fn write_time(out: &mut Vec<u8>, micros: i64) {
    let micros = micros.unsigned_abs();
    let (seconds, fraction) = (
        micros / MICROS_PER_SECOND,
        (micros % MICROS_PER_SECOND) as u32,
    );
    let [h0, h1] = two_digits((seconds / 3600 % 100) as u32);
    let [m0, m1] = two_digits((seconds / 60 % 60) as u32);
    let [s0, s1] = two_digits((seconds % 60) as u32);
    out.extend_from_slice(&[h0, h1, b':', m0, m1, b':', s0, s1]);
    if fraction != 0 {
        write_fraction(out, fraction);
    }
}

/// A point and up to six digits, zeros at the end left out.
pub(super) fn write_fraction(out: &mut Vec<u8>, micros: u32) {
    let [a, b] = two_digits(micros / 10_000);
    let [c, d] = two_digits(micros / 100 % 100);
    let [e, f] = two_digits(micros % 100);
    let digits = [b'.', a, b, c, d, e, f];
    let zeros = digits
        .iter()
        .rev()
        .take_while(|&&digit| digit == b'0')
        .count();
    out.extend_from_slice(&digits[..digits.len() - zeros]);
}

/// The last two digits of a number.
fn two_digits(number: u32) -> [u8; 2] {
    TWO_DIGITS[(number % 100) as usize]
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_of_every_era_are_printed() {
        for (days, expected) in [
            (0, "2000-01-01"),
            (59, "2000-02-29"),
            (-36_524, "1900-01-01"),
            (2_921_939, "9999-12-31"),
            (2_921_940, "10000-01-01"),
            (2_145_031_948, "5874897-12-31"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(
                written(|out| date(out, days)),
                format!("\"{expected}\""),
                "{days}"
            );
        }
    }

    #[test]
    fn the_day_after_each_day_of_five_centuries_is_the_next() {
        let mut day = Date::from_days(-150_000);
        for days in -149_999..50_000 {
            let next = Date::from_days(days);
            let is_leap = day.year % 4 == 0 && (day.year % 100 != 0 || day.year % 400 == 0);
            let length = match day.month {
                2 => 28 + u32::from(is_leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = if day.day < length {
                (day.year, day.month, day.day + 1)
            } else if day.month < 12 {
                (day.year, day.month + 1, 1)
            } else {
                (day.year + 1, 1, 1)
            };
            assert_eq!((next.year, next.month, next.day), expected, "day {days}");
            day = next;
        }
    }

    #[test]
    fn times_have_as_many_decimals_as_they_need() {
        for (micros, expected) in [
            (0, "00:00:00"),
            (1, "00:00:00.000001"),
            (100_000, "00:00:00.1"),
            (86_399_999_999, "23:59:59.999999"),
            (86_400_000_000, "24:00:00"),
        ] {
            assert_eq!(
                written(|out| time(out, micros)),
                format!("\"{expected}\""),
                "{micros}"
            );
        }
    }

    #[test]
    fn zones_have_as_many_fields_as_they_need() {
        for (west, expected) in [
            (0, "00:00:00+00"),
            (-7_200, "00:00:00+02"),
            (12_600, "00:00:00-03:30"),
            (57_599, "00:00:00-15:59:59"),
            (1, "00:00:00-00:00:01"),
        ] {
            assert_eq!(
                written(|out| timetz(out, 0, west)),
                format!("\"{expected}\""),
                "{west}"
            );
        }
    }

    #[test]
    fn timestamps_have_the_zone_before_the_era() {
        for (micros, local, utc) in [
            (0, "2000-01-01T00:00:00", "2000-01-01T00:00:00+00:00"),
            (
                -1,
                "1999-12-31T23:59:59.999999",
                "1999-12-31T23:59:59.999999+00:00",
            ),
            (
                9_223_371_331_199_999_999,
                "294276-12-31T23:59:59.999999",
                "294276-12-31T23:59:59.999999+00:00",
            ),
            (
                -211_813_488_000_000_000,
                "4714-11-24T00:00:00 BC",
                "4714-11-24T00:00:00+00:00 BC",
            ),
            (i64::MAX, "infinity", "infinity"),
            (i64::MIN, "-infinity", "-infinity"),
        ] {
            assert_eq!(
                written(|out| timestamp(out, micros)),
                format!("\"{local}\""),
                "{micros}"
            );
            assert_eq!(
                written(|out| timestamptz(out, micros)),
                format!("\"{utc}\""),
                "{micros}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_number_makes_a_writer_panic(micros: i64, small: i32) {
            let mut out = Vec::new();
            date(&mut out, small);
            time(&mut out, micros);
            timetz(&mut out, micros, small);
            timestamp(&mut out, micros);
        }
    }
}
