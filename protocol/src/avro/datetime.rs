//! Dates and times, counted from 1970.
//!
//! Postgres counts from 2000-01-01, days in a `date`, microseconds in a `timestamp`, and takes
//! the ends of the integers for the infinities; so does what is written. A finite value that
//! would be one of the ends or beyond, which a `timestamp` from the year 294247 on is, has no
//! number here. Readers whose calendars end earlier get the integer all the same.

use super::write;
use super::{Field, FullName, Schema};
use crate::ValueError;

/// Days from 1970-01-01 to 2000-01-01: `POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE`.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400 * 1_000_000;

/// Writes a `date`, from its days since 2000-01-01, as an `int`.
pub fn date(out: &mut Vec<u8>, days: i32) -> Result<(), ValueError> {
    let since_1970 = match days {
        i32::MIN | i32::MAX => days,
        _ => days
            .checked_add(EPOCH_DAYS)
            .filter(|days| *days < i32::MAX)
            .ok_or(ValueError::OutsideEpoch)?,
    };
    write::int(out, since_1970);
    Ok(())
}

/// Writes a `timestamp` or a `timestamptz`, from its microseconds since 2000-01-01, as a `long`.
pub fn timestamp(out: &mut Vec<u8>, micros: i64) -> Result<(), ValueError> {
    let since_1970 = match micros {
        i64::MIN | i64::MAX => micros,
        _ => micros
            .checked_add(EPOCH_MICROS)
            .filter(|micros| *micros < i64::MAX)
            .ok_or(ValueError::OutsideEpoch)?,
    };
    write::long(out, since_1970);
    Ok(())
}

/// Writes a `time`, from its microseconds since midnight, as a `long`: 24:00:00 included.
pub fn time(out: &mut Vec<u8>, micros: i64) {
    write::long(out, micros);
}

/// Writes a `timetz`, from its microseconds since midnight and its zone in seconds west of
/// Greenwich as Postgres stores it, as [`timetz_schema`] says.
pub fn timetz(out: &mut Vec<u8>, micros: i64, zone_seconds_west: i32) {
    write::long(out, micros);
    write::int(out, zone_seconds_west.wrapping_neg());
}

/// The record `headwater.TimeTz`: the local time, and its zone's seconds east of UTC.
pub fn timetz_schema() -> Schema {
    Schema::record(
        FullName::own("TimeTz"),
        vec![
            Field::new("micros", Schema::TimeMicros),
            Field::new("offset", Schema::Int),
        ],
    )
}

/// Writes an `interval` as [`interval_schema`] says. Those without end, which servers have
/// from 17 on, are the ends of all three fields, as they are stored.
pub fn interval(out: &mut Vec<u8>, months: i32, days: i32, micros: i64) {
    write::int(out, months);
    write::int(out, days);
    write::long(out, micros);
}

/// The record `headwater.Interval`: three numbers that nothing normalises, since neither a
/// month nor a day has a length of its own.
pub fn interval_schema() -> Schema {
    Schema::record(
        FullName::own("Interval"),
        vec![
            Field::new("months", Schema::Int),
            Field::new("days", Schema::Int),
            Field::new("micros", Schema::Long),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueError>,
    ) -> Result<i64, ValueError> {
        let mut out = Vec::new();
        write(&mut out)?;
        Ok(write::tests::read_long(&out).0)
    }

    #[test]
    fn the_epoch_is_1970_and_infinities_are_the_ends() {
        for (days, expected) in [
            (0, Ok(10_957)),
            (-10_957, Ok(0)),
            (2_145_031_948, Ok(2_145_042_905)),
            (-2_451_545, Ok(-2_440_588)),
            (i32::MAX, Ok(i64::from(i32::MAX))),
            (i32::MIN, Ok(i64::from(i32::MIN))),
            (i32::MAX - 10_957, Err(ValueError::OutsideEpoch)),
            (i32::MAX - 10_958, Ok(i64::from(i32::MAX) - 1)),
        ] {
            assert_eq!(number(|out| date(out, days)), expected, "{days} days");
        }
        for (micros, expected) in [
            (0, Ok(946_684_800_000_000)),
            (-946_684_800_000_000, Ok(0)),
            (-211_813_488_000_000_000, Ok(-210_866_803_200_000_000)),
            (i64::MAX, Ok(i64::MAX)),
            (i64::MIN, Ok(i64::MIN)),
            (
                i64::MAX - 946_684_800_000_000,
                Err(ValueError::OutsideEpoch),
            ),
            (i64::MAX - 946_684_800_000_001, Ok(i64::MAX - 1)),
            // 294276-12-31 23:59:59.999999, the last that Postgres has.
            (9_223_371_331_199_999_999, Err(ValueError::OutsideEpoch)),
        ] {
            assert_eq!(number(|out| timestamp(out, micros)), expected, "{micros}");
        }
    }

    proptest! {
        #[test]
        fn only_the_infinities_are_ends(days: i32, micros: i64) {
            if let Ok(written) = number(|out| date(out, days)) {
                let is_end = [i32::MIN, i32::MAX].map(i64::from).contains(&written);
                prop_assert_eq!(is_end, [i32::MIN, i32::MAX].contains(&days));
            }
            if let Ok(written) = number(|out| timestamp(out, micros)) {
                let is_end = [i64::MIN, i64::MAX].contains(&written);
                prop_assert_eq!(is_end, [i64::MIN, i64::MAX].contains(&micros));
            }
        }
    }
}
