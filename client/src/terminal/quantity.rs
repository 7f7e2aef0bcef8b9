//! Numbers as people read them.

use std::time::Duration;

/// 1024 of one are one of the next, as `pg_size_pretty` has it.
const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];

/// A size with its unit: `512 bytes`, `1.4 MB`, `20 GB`. Of small numbers one decimal is told.
pub fn bytes(bytes: u64) -> String {
    let mut unit = 0;
    let mut size = bytes as f64;
    // What would be rounded to 1024 belongs to the next unit.
    while size >= 1023.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    match unit > 0 && size < 9.95 {
        true => format!("{size:.1} {}", UNITS[unit]),
        false => format!("{size:.0} {}", UNITS[unit]),
    }
}

/// A number with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 table`, `1,234 tables`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    let what = if number == 1 { one } else { many };
    format!("{} {what}", count(number))
}

/// A time in its two largest units: `0.4 s`, `12 s`, `3 min 20 s`, `4 h 5 min`, `2 d 7 h`.
pub fn duration(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = duration.as_secs();
    let two = |unit: u64, name: &str, smaller: u64, smaller_name: &str| {
        let (many, rest) = (seconds / unit, seconds % unit / smaller);
        match rest {
            0 => format!("{many} {name}"),
            rest => format!("{many} {name} {rest} {smaller_name}"),
        }
    };
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => two(MINUTE, "min", 1, "s"),
        HOUR..DAY => two(HOUR, "h", MINUTE, "min"),
        _ if seconds / DAY >= 1_000 => "years".to_owned(),
        _ => two(DAY, "d", HOUR, "h"),
    }
}

/// A part of a whole: `47 %`. Not all of it is never `100 %`.
pub fn share(part: u64, whole: u64) -> String {
    let percent = match whole {
        0 => 100,
        whole => u128::from(part.min(whole)) * 100 / u128::from(whole),
    };
    format!("{percent} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_postgres() {
        for (size, expected) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1.0 kB"),
            (1_500_000, "1.4 MB"),
            (10_240, "10 kB"),
            (1_048_575, "1.0 MB"),
            (20 << 30, "20 GB"),
            (u64::MAX, "16384 PB"),
        ] {
            assert_eq!(bytes(size), expected, "{size}");
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn what_is_counted_is_named() {
        for (number, expected) in [(0, "0 tables"), (1, "1 table"), (1_234, "1,234 tables")] {
            assert_eq!(counted(number, "table", "tables"), expected);
        }
    }

    #[test]
    fn a_time_has_at_most_two_units() {
        for (milliseconds, expected) in [
            (0, "0.0 s"),
            (420, "0.4 s"),
            (12_900, "12 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (14_700_000, "4 h 5 min"),
            (198_000_000, "2 d 7 h"),
            (u64::MAX, "years"),
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(duration(time), expected, "{milliseconds}");
        }
    }

    #[test]
    fn what_is_not_done_is_no_hundred_percent() {
        for (part, whole, expected) in [
            (0, 7, "0 %"),
            (999, 1_000, "99 %"),
            (9, 7, "100 %"),
            (0, 0, "100 %"),
            (u64::MAX - 1, u64::MAX, "99 %"),
        ] {
            assert_eq!(share(part, whole), expected);
        }
    }
}
