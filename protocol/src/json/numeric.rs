//! `numeric`, straight from its stored form.
//!
//! ```text
//! header: u16   00 positive, 01 negative: long     low 14 bits: digits shown after the point
//!                                                  followed by weight: i16
//!               10 short                           sign, 6 bits of shown digits, 7 of weight
//!               11 special                         NaN, Infinity or -Infinity; nothing follows
//! digits: [u16] base 10000, most significant first
//! ```
//!
//! The value is the sum of `digits[i] * 10000^(weight - i)`. Zeros at both ends are not
//! stored, so the number of digits printed is that of weight and shown digits, and what
//! is not stored is a zero.

use super::ValueError;
use super::integer::TWO_DIGITS;

const KIND_MASK: u16 = 0xC000;
const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xC000;

const SPECIAL_NAN: u16 = 0xC000;
const SPECIAL_INFINITY: u16 = 0xD000;
const SPECIAL_MINUS_INFINITY: u16 = 0xF000;
const SPECIAL_MASK: u16 = 0xF000;

const LONG_SCALE_MASK: u16 = 0x3FFF;

const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_SCALE_MASK: u16 = 0x1F80;
const SHORT_SCALE_SHIFT: u32 = 7;
const SHORT_WEIGHT_SIGN: u16 = 0x0040;
const SHORT_WEIGHT_MASK: u16 = 0x003F;

/// Digits are to this base, four decimal ones each.
const BASE: u16 = 10_000;
const DECIMALS_PER_DIGIT: usize = 4;

/// Writes a `numeric` from the bytes that follow its varlena header: exactly as many
/// digits after the point as the value's scale says; NaN and the infinities as strings.
pub fn numeric(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), ValueError> {
    match Numeric::read(payload)? {
        Numeric::Special(name) => out.extend_from_slice(name),
        Numeric::Finite(number) => number.write(out)?,
    }
    Ok(())
}

enum Numeric<'a> {
    Special(&'static [u8]),
    Finite(Finite<'a>),
}

struct Finite<'a> {
    is_negative: bool,
    /// The power of [`BASE`] that the first digit stands for.
    weight: i16,
    /// Decimal digits shown after the point.
    scale: u16,
    digits: &'a [[u8; 2]],
}

impl<'a> Numeric<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, ValueError> {
        let (words, []) = payload.as_chunks::<2>() else {
            return Err(ValueError::MalformedNumeric);
        };
        let (header, rest) = words.split_first().ok_or(ValueError::MalformedNumeric)?;
        let header = u16::from_ne_bytes(*header);
        Ok(match header & KIND_MASK {
            SPECIAL => Numeric::Special(match header & SPECIAL_MASK {
                SPECIAL_NAN => br#""NaN""#,
                SPECIAL_INFINITY => br#""Infinity""#,
                SPECIAL_MINUS_INFINITY => br#""-Infinity""#,
                _ => return Err(ValueError::MalformedNumeric),
            }),
            SHORT => {
                let weight = header & SHORT_WEIGHT_MASK;
                let weight = if header & SHORT_WEIGHT_SIGN == 0 {
                    weight
                } else {
                    weight | !SHORT_WEIGHT_MASK
                };
                Numeric::Finite(Finite {
                    is_negative: header & SHORT_NEGATIVE != 0,
                    weight: weight.cast_signed(),
                    scale: (header & SHORT_SCALE_MASK) >> SHORT_SCALE_SHIFT,
                    digits: rest,
                })
            }
            sign => {
                let (weight, digits) = rest.split_first().ok_or(ValueError::MalformedNumeric)?;
                Numeric::Finite(Finite {
                    is_negative: sign == NEGATIVE,
                    weight: i16::from_ne_bytes(*weight),
                    scale: header & LONG_SCALE_MASK,
                    digits,
                })
            }
        })
    }
}

impl Finite<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        if self.is_negative {
            out.push(b'-');
        }
        self.write_integer_part(out)?;
        if self.scale > 0 {
            out.push(b'.');
            self.write_fraction(out)?;
        }
        Ok(())
    }

    fn write_integer_part(&self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        if self.weight < 0 {
            out.push(b'0');
            return Ok(());
        }
        let first = self.digit(0)?;
        // A leading zero is never stored; printed before other digits it would not be JSON.
        if first == *b"0000" && self.weight > 0 {
            return Err(ValueError::MalformedNumeric);
        }
        let zeros = first[..DECIMALS_PER_DIGIT - 1]
            .iter()
            .take_while(|&&digit| digit == b'0')
            .count();
        out.extend_from_slice(&first[zeros..]);
        for position in 1..=i32::from(self.weight) {
            out.extend_from_slice(&self.digit(position)?);
        }
        Ok(())
    }

    fn write_fraction(&self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let end = out.len() + usize::from(self.scale);
        let mut position = i32::from(self.weight) + 1;
        while out.len() < end {
            out.extend_from_slice(&self.digit(position)?);
            position += 1;
        }
        out.truncate(end);
        Ok(())
    }

    /// The four decimals of the digit at `position`, counted from the first one stored.
    fn digit(&self, position: i32) -> Result<[u8; DECIMALS_PER_DIGIT], ValueError> {
        let stored = usize::try_from(position)
            .ok()
            .and_then(|position| self.digits.get(position));
        let Some(stored) = stored else {
            return Ok(*b"0000");
        };
        let digit = u16::from_ne_bytes(*stored);
        if digit >= BASE {
            return Err(ValueError::MalformedNumeric);
        }
        let [a, b] = TWO_DIGITS[usize::from(digit / 100)];
        let [c, d] = TWO_DIGITS[usize::from(digit % 100)];
        Ok([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    fn payload(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn short(is_negative: bool, scale: u16, weight: i16, digits: &[u16]) -> Vec<u8> {
        let sign = if is_negative { SHORT_NEGATIVE } else { 0 };
        let weight = weight.cast_unsigned() & (SHORT_WEIGHT_SIGN | SHORT_WEIGHT_MASK);
        let header = SHORT | sign | scale << SHORT_SCALE_SHIFT | weight;
        payload(&[&[header], digits].concat())
    }

    fn long(is_negative: bool, scale: u16, weight: i16, digits: &[u16]) -> Vec<u8> {
        let sign = if is_negative { NEGATIVE } else { 0 };
        payload(&[&[sign | scale, weight.cast_unsigned()], digits].concat())
    }

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
            (SPECIAL_NAN, "\"NaN\""),
            (SPECIAL_INFINITY, "\"Infinity\""),
            (SPECIAL_MINUS_INFINITY, "\"-Infinity\""),
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
            payload(&[SHORT, 1])[..3].to_vec(),
            payload(&[0xE000]),
            short(false, 0, 0, &[BASE]),
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
