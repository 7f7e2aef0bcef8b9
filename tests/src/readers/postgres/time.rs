//! Dates and times as Postgres prints them, as numbers since 1970.

use serde_json::{Value, json};

use super::Same;

const MICROS_PER_SECOND: i128 = 1_000_000;
const MICROS_PER_DAY: i128 = 86_400 * MICROS_PER_SECOND;

/// Days since 1970-01-01 in the proleptic Gregorian calendar; infinity is an end of the range.
pub(super) fn days(text: &str) -> Result<i64, String> {
    match text {
        "infinity" => return Ok(i64::from(i32::MAX)),
        "-infinity" => return Ok(i64::from(i32::MIN)),
        _ => {}
    }
    let (date, is_bc) = match text.strip_suffix(" BC") {
        Some(date) => (date, true),
        None => (text, false),
    };
    let parts = numbers(date, '-')?;
    let [year, month, day] = parts[..] else {
        return Err(format!("no date: {text}"));
    };
    let year = if is_bc { 1 - year } else { year };
    // Days of whole years, then of whole months, then of the month.
    let before =
        |year: i64| 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let february = if is_leap { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_year: i64 = months.iter().take(month as usize - 1).sum::<i64>() + day - 1;
    Ok(before(year - 1) - before(1969) + in_year)
}

/// Microseconds since midnight.
pub(super) fn of_day(text: &str) -> Result<i64, String> {
    i64::try_from(clock(text)?).map_err(|e| format!("{e}: {text}"))
}

/// Microseconds of a clock that may have any number of hours.
pub(super) fn clock(text: &str) -> Result<i128, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let parts = numbers(whole, ':')?;
    let [hours, minutes, seconds] = parts[..] else {
        return Err(format!("no time: {text}"));
    };
    let micros: i128 = format!("{fraction:0<6}")
        .parse()
        .map_err(|e| format!("{e}: {text}"))?;
    let seconds = i128::from((hours * 60 + minutes) * 60 + seconds);
    Ok(seconds * MICROS_PER_SECOND + micros)
}

/// Microseconds since 1970; infinity is an end of the range. A zone is that of UTC.
pub(super) fn micros(text: &str) -> Result<i64, String> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (text, era) = match text.strip_suffix(" BC") {
        Some(rest) => (rest, " BC"),
        None => (text, ""),
    };
    let Some((date, time)) = text.split_once(['T', ' ']) else {
        return Err(format!("no timestamp: {text}"));
    };
    let time = time.trim_end_matches("+00:00").trim_end_matches("+00");
    let days = days(&format!("{date}{era}"))?;
    let micros = i128::from(days) * MICROS_PER_DAY + i128::from(of_day(time)?);
    micros.try_into().map_err(|e| format!("{e}: {text}"))
}

/// A `timetz`.
pub(super) fn with_zone(found: &Value, said: &str) -> Same {
    let text = super::unquoted(said)?;
    let Some(at) = text.rfind(['+', '-']) else {
        return Err(format!("no zone: {text}"));
    };
    let (time, zone) = text.split_at(at);
    let mut parts = numbers(&zone[1..], ':')?;
    parts.resize(3, 0);
    let east = (parts[0] * 60 + parts[1]) * 60 + parts[2];
    let offset = if zone.starts_with('-') { -east } else { east };
    let expected = json!({ "micros": of_day(time)?, "offset": offset });
    super::equal(&expected, found, expected == *found, said)
}

fn numbers(text: &str, separator: char) -> Result<Vec<i64>, String> {
    text.split(separator)
        .map(|part| part.parse().map_err(|e| format!("{e}: {text}")))
        .collect()
}
