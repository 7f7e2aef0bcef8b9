//! `numeric`, as it is stored (`NumericChoice` in `numeric.c`).
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
//! stored: what is not there is a zero.

use crate::ValueError;

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
pub(crate) const DECIMALS_PER_DIGIT: usize = 4;

/// A stored `numeric`.
pub(crate) enum Numeric<'a> {
    Special(Special),
    Finite(Finite<'a>),
}

/// What is no number.
pub(crate) enum Special {
    NaN,
    Infinity,
    MinusInfinity,
}

/// A number.
pub(crate) struct Finite<'a> {
    pub(crate) is_negative: bool,
    /// The power of [`BASE`] that the first digit stands for.
    pub(crate) weight: i16,
    /// Decimal digits shown after the point.
    pub(crate) scale: u16,
    digits: &'a [[u8; 2]],
}

impl<'a> Numeric<'a> {
    /// Reads the bytes that follow the varlena header.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, ValueError> {
        let (words, []) = payload.as_chunks::<2>() else {
            return Err(ValueError::MalformedNumeric);
        };
        let (header, rest) = words.split_first().ok_or(ValueError::MalformedNumeric)?;
        let header = u16::from_ne_bytes(*header);
        Ok(match header & KIND_MASK {
            SPECIAL => Numeric::Special(match header & SPECIAL_MASK {
                SPECIAL_NAN => Special::NaN,
                SPECIAL_INFINITY => Special::Infinity,
                SPECIAL_MINUS_INFINITY => Special::MinusInfinity,
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
    /// How many digits are stored.
    pub(crate) fn len(&self) -> usize {
        self.digits.len()
    }

    /// The digit at `position`, counted from the first one stored: less than [`BASE`].
    pub(crate) fn digit(&self, position: i32) -> Result<u16, ValueError> {
        let stored = usize::try_from(position)
            .ok()
            .and_then(|position| self.digits.get(position));
        let Some(stored) = stored else {
            return Ok(0);
        };
        let digit = u16::from_ne_bytes(*stored);
        if digit >= BASE {
            return Err(ValueError::MalformedNumeric);
        }
        Ok(digit)
    }
}

/// The forms, for tests.
#[cfg(test)]
pub(crate) mod forms {
    use super::*;

    pub(crate) const NAN: u16 = SPECIAL_NAN;
    pub(crate) const INFINITY: u16 = SPECIAL_INFINITY;
    pub(crate) const MINUS_INFINITY: u16 = SPECIAL_MINUS_INFINITY;

    pub(crate) fn payload(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    pub(crate) fn short(is_negative: bool, scale: u16, weight: i16, digits: &[u16]) -> Vec<u8> {
        let sign = if is_negative { SHORT_NEGATIVE } else { 0 };
        let weight = weight.cast_unsigned() & (SHORT_WEIGHT_SIGN | SHORT_WEIGHT_MASK);
        let header = SHORT | sign | scale << SHORT_SCALE_SHIFT | weight;
        payload(&[&[header], digits].concat())
    }

    pub(crate) fn long(is_negative: bool, scale: u16, weight: i16, digits: &[u16]) -> Vec<u8> {
        let sign = if is_negative { NEGATIVE } else { 0 };
        payload(&[&[sign | scale, weight.cast_unsigned()], digits].concat())
    }
}
