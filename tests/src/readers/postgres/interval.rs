//! Intervals, in the style `postgres`.

use serde_json::{Value, json};

use super::{Same, time};

/// Compares an interval's three numbers with its text.
pub(super) fn same(found: &Value, said: &str) -> Same {
    let expected = parsed(&super::unquoted(said)?)?;
    super::equal(&expected, found, expected == *found, said)
}

fn parsed(text: &str) -> Result<Value, String> {
    match text {
        "infinity" => return Ok(ends(i32::MAX, i64::MAX)),
        "-infinity" => return Ok(ends(i32::MIN, i64::MIN)),
        _ => {}
    }
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (sign, clock) = match word.strip_prefix('-') {
                Some(clock) => (-1, clock),
                None => (1, word.trim_start_matches('+')),
            };
            let signed = sign * time::clock(clock)?;
            micros = signed.try_into().map_err(|e| format!("{e}: {text}"))?;
            continue;
        }
        let number: i64 = word.parse().map_err(|e| format!("{e}: {text}"))?;
        match words.next().map(|unit| unit.trim_end_matches('s')) {
            Some("year") => months += 12 * number,
            Some("mon") => months += number,
            Some("day") => days = number,
            other => return Err(format!("{other:?} in {text}")),
        }
    }
    Ok(json!({ "months": months, "days": days, "micros": micros }))
}

fn ends(of_int: i32, of_long: i64) -> Value {
    json!({ "months": of_int, "days": of_int, "micros": of_long })
}
