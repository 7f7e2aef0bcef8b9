//! `numeric`, straight from its stored form.
//!
//! Zeros at both ends are not stored, so the number of digits printed is that of weight and
//! shown digits, and what is not stored is a zero.

use super::ValueError;
use super::integer::TWO_DIGITS;
use crate::stored::{DECIMALS_PER_DIGIT, Finite, Numeric, Special};

/// Writes a `numeric` from the bytes that follow its varlena header: exactly as many
/// digits after the point as the value's scale says; NaN and the infinities as strings.
pub fn numeric(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), ValueError> {
    match Numeric::read(payload)? {
        Numeric::Special(special) => out.extend_from_slice(match special {
            Special::NaN => br#""NaN""#,
            Special::Infinity => br#""Infinity""#,
            Special::MinusInfinity => br#""-Infinity""#,
        }),
        Numeric::Finite(number) => write(&number, out)?,
    }
    Ok(())
}

fn write(number: &Finite<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if number.is_negative {
        out.push(b'-');
    }
    write_integer_part(number, out)?;
    if number.scale > 0 {
        out.push(b'.');
        write_fraction(number, out)?;
    }
    Ok(())
}

fn write_integer_part(number: &Finite<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if number.weight < 0 {
        out.push(b'0');
        return Ok(());
    }
    let first = decimals(number, 0)?;
    // A leading zero is never stored; printed before other digits it would not be JSON.
    if first == *b"0000" && number.weight > 0 {
        return Err(ValueError::MalformedNumeric);
    }
    let zeros = first[..DECIMALS_PER_DIGIT - 1]
        .iter()
        .take_while(|&&digit| digit == b'0')
        .count();
    out.extend_from_slice(&first[zeros..]);
    for position in 1..=i32::from(number.weight) {
        out.extend_from_slice(&decimals(number, position)?);
    }
    Ok(())
}

fn write_fraction(number: &Finite<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let end = out.len() + usize::from(number.scale);
    let mut position = i32::from(number.weight) + 1;
    while out.len() < end {
        out.extend_from_slice(&decimals(number, position)?);
        position += 1;
    }
    out.truncate(end);
    Ok(())
}

/// The four decimals of the digit at `position`, counted from the first one stored.
fn decimals(number: &Finite<'_>, position: i32) -> Result<[u8; DECIMALS_PER_DIGIT], ValueError> {
    let digit = number.digit(position)?;
    let [a, b] = TWO_DIGITS[usize::from(digit / 100)];
    let [c, d] = TWO_DIGITS[usize::from(digit % 100)];
    Ok([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    use crate::stored::numeric_forms::{INFINITY, MINUS_INFINITY, NAN, long, payload, short};

    fn printed(payload: &[u8]) -> Result<String, ValueError> {
        let mut result = Ok(());
        let text = written(|out| result = numeric(out, payload));
        result.map(|()| text)
    }

    #[test]
    fn both_forms_print_every_shown_digit() {
        for (is_negative, scale, weight, digits, expected) in [
            (false, 0, 0, &[][..], "0"),
            (false, 3, 0, &[], "0.000"),
            (true, 0, 0, &[1], "-1"),
            (false, 0, 1, &[1], "10000"),
            (false, 2, 1, &[12, 3456, 7800], "123456.78"),
            (false, 5, -1, &[500], "0.05000"),
            (false, 8, -2, &[1], "0.00000001"),
            (true, 6, -2, &[4200], "-0.000042"),
            (false, 4, 2, &[1, 0, 3, 9], "100000003.0009"),
        ] {
            for payload in [short, long].map(|form| form(is_negative, scale, weight, digits)) {
                assert_eq!(printed(&payload).as_deref(), Ok(expected), "{payload:?}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_a_string() {
        for (header, expected) in [
            (NAN, "\"NaN\""),
            (INFINITY, "\"Infinity\""),
            (MINUS_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(printed(&payload(&[header])).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_the_server_never_stores_is_an_error() {
        for malformed in [
            vec![],
            vec![0],
            payload(&[0]),
            payload(&[0x8000, 1])[..3].to_vec(),
            payload(&[0xE000]),
            short(false, 0, 0, &[10_000]),
            short(false, 4, -1, &[u16::MAX]),
            short(false, 0, 1, &[0, 1]),
        ] {
            assert_eq!(
                printed(&malformed),
                Err(ValueError::MalformedNumeric),
                "{malformed:?}"
            );
        }
    }

    #[test]
    fn payloads_need_no_alignment() {
        let mut shifted = vec![0];
        shifted.extend(short(false, 2, 0, &[12, 3400]));
        assert_eq!(printed(&shifted[1..]).as_deref(), Ok("12.34"));
    }

    /// A string, or a number as JSON's grammar has it, of any length.
    fn is_json(text: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.strip_prefix('-').unwrap_or(text);
        let (integer, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let leads_with_zero = integer.len() > 1 && integer.starts_with('0');
        text.starts_with('"') || digits(integer) && digits(fraction) && !leads_with_zero
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_json(payload: Vec<u8>) {
            if let Ok(text) = printed(&payload) {
                prop_assert!(is_json(&text), "{}", text);
            }
        }
    }
}
