//! `numeric` as Avro's decimal: the number without its point, as a two's complement integer
//! of the fewest bytes, the most significant first (Avro specification, "Decimal").
//!
//! The unscaled number is read off the stored digits to base 10000 by Horner's rule, in the
//! narrowest of three widths that its decimal digits fit into. How many those are is known
//! before the first is read, so nothing overflows, and what the column's type does not hold
//! is refused without any arithmetic: at most [`MAX_PRECISION`] digits are ever
//! multiplied, whatever the value claims to have.

use super::write;
use crate::ValueError;
use crate::stored::{DECIMALS_PER_DIGIT, Finite, Numeric};

/// `NUMERIC_MAX_PRECISION`.
const MAX_PRECISION: u16 = 1000;

/// Digits that any number of so many fit into 63 bits.
const DIGITS_OF_U64: i32 = 18;
/// Digits that any number of so many fit into 126 bits.
const DIGITS_OF_U128: i32 = 38;
/// 10^1000 has 3,322 bits.
const LIMBS: usize = 52;

/// A `numeric(precision, scale)` that Avro has a decimal for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    precision: u16,
    scale: u16,
}

impl Decimal {
    /// 1 ≤ `precision` ≤ 1000, 0 ≤ `scale` ≤ `precision`: none otherwise.
    pub fn new(precision: u16, scale: u16) -> Option<Self> {
        let is_decimal = (1..=MAX_PRECISION).contains(&precision) && scale <= precision;
        is_decimal.then_some(Decimal { precision, scale })
    }

    /// Of a `numeric` with this type modifier (`make_numeric_typmod` in `numeric.c`): none if it
    /// has none, a negative scale or a scale above the precision. Such numbers are strings.
    pub fn of_modifier(modifier: i32) -> Option<Self> {
        const HEADER: i32 = 4;
        const SCALE_BITS: i32 = 0x7FF;
        const SCALE_SIGN: i32 = 0x400;
        let packed = modifier.checked_sub(HEADER).filter(|packed| *packed >= 0)?;
        let scale = (packed & SCALE_BITS ^ SCALE_SIGN) - SCALE_SIGN;
        Decimal::new(
            u16::try_from(packed >> 16).ok()?,
            u16::try_from(scale).ok()?,
        )
    }

    /// Decimal digits, 1 to 1000.
    pub fn precision(self) -> u16 {
        self.precision
    }

    /// Digits behind the point, 0 to the precision.
    pub fn scale(self) -> u16 {
        self.scale
    }
}

/// Writes a `numeric`, from the bytes that follow its varlena header, as `bytes` of a decimal.
///
/// NaN and infinities are [`ValueError::NoDecimal`]; a number that the decimal does not hold
/// exactly is [`ValueError::DecimalOverflow`].
pub fn decimal(out: &mut Vec<u8>, payload: &[u8], of: Decimal) -> Result<(), ValueError> {
    let Numeric::Finite(number) = Numeric::read(payload)? else {
        return Err(ValueError::NoDecimal);
    };
    let Some(unscaled) = Unscaled::read(&number, of)? else {
        write::bytes(out, &[0]);
        return Ok(());
    };
    if unscaled.decimals <= DIGITS_OF_U64 {
        let mut magnitude = 0_u64;
        unscaled.steps(|factor, summand| magnitude = magnitude * factor + summand)?;
        write_integer(out, u128::from(magnitude), number.is_negative);
    } else if unscaled.decimals <= DIGITS_OF_U128 {
        let mut magnitude = 0_u128;
        unscaled.steps(|factor, summand| {
            magnitude = magnitude * u128::from(factor) + u128::from(summand);
        })?;
        write_integer(out, magnitude, number.is_negative);
    } else {
        let mut magnitude = Limbs::default();
        unscaled.steps(|factor, summand| magnitude.step(factor, summand))?;
        magnitude.write(out, number.is_negative);
    }
    Ok(())
}

/// A number that is not zero and fits the decimal.
struct Unscaled<'n> {
    number: &'n Finite<'n>,
    /// Position of the first digit that is not zero.
    first: i32,
    /// Position of the last digit that the decimal has, a part of it perhaps.
    last: i32,
    /// What the last digit is divided by.
    last_divisor: u16,
    /// Decimal digits of the unscaled number.
    decimals: i32,
}

impl<'n> Unscaled<'n> {
    /// None for zero.
    fn read(number: &'n Finite<'n>, of: Decimal) -> Result<Option<Self>, ValueError> {
        const PER_DIGIT: i32 = DECIMALS_PER_DIGIT as i32;
        // Stored digits are 65,535 at most: the weight of the last is an i16.
        let stored = i32::try_from(number.len()).map_err(|_| ValueError::MalformedNumeric)?;
        let Some((first, leading)) = first_digit(number, stored)? else {
            return Ok(None);
        };
        let weight = i32::from(number.weight);
        let scale = i32::from(of.scale);
        let leading_decimals = leading.ilog10() as i32 + 1;
        let decimals = (weight - first) * PER_DIGIT + leading_decimals + scale;
        let last = weight + (scale + PER_DIGIT - 1) / PER_DIGIT;
        let last_divisor = 10_u16.pow((PER_DIGIT - scale % PER_DIGIT) as u32 % PER_DIGIT as u32);
        let is_exact = {
            let mut behind = (last + 1).max(first)..stored;
            number.digit(last)? % last_divisor == 0
                && behind.try_fold(true, |zeros, position| {
                    Ok(zeros && number.digit(position)? == 0)
                })?
        };
        if decimals > i32::from(of.precision) || !is_exact {
            return Err(ValueError::DecimalOverflow);
        }
        Ok(Some(Unscaled {
            number,
            first,
            last,
            last_divisor,
            decimals,
        }))
    }

    /// Horner's rule: the number is what is left of zero after each step has multiplied it by
    /// a factor and added a summand, both less than 2^63.
    fn steps(&self, mut step: impl FnMut(u64, u64)) -> Result<(), ValueError> {
        /// Four digits in one multiplication.
        const FULL: u64 = 10_u64.pow(16);
        let (mut factor, mut summand) = (1_u64, 0_u64);
        for position in self.first..=self.last {
            let divisor = if position == self.last {
                self.last_divisor
            } else {
                1
            };
            let base = u64::from(10_000 / divisor);
            factor *= base;
            summand = summand * base + u64::from(self.number.digit(position)? / divisor);
            if factor >= FULL {
                step(factor, summand);
                (factor, summand) = (1, 0);
            }
        }
        if factor > 1 {
            step(factor, summand);
        }
        Ok(())
    }
}

fn first_digit(number: &Finite<'_>, stored: i32) -> Result<Option<(i32, u16)>, ValueError> {
    for position in 0..stored {
        let digit = number.digit(position)?;
        if digit != 0 {
            return Ok(Some((position, digit)));
        }
    }
    Ok(None)
}

/// Writes `bytes` of an integer whose magnitude is less than 2^127.
///
/// The two's complement of -m is m - 1 with all bits turned over, so both signs need a bit more
/// than what is turned over has.
fn write_integer(out: &mut Vec<u8>, magnitude: u128, is_negative: bool) {
    let (below, turn) = if is_negative {
        (magnitude - 1, u128::MAX)
    } else {
        (magnitude, 0)
    };
    let bits = u128::BITS - below.leading_zeros();
    let bytes = (below ^ turn).to_be_bytes();
    write::bytes(out, &bytes[bytes.len() - (bits as usize / 8 + 1)..]);
}

/// A magnitude of any decimal's digits, the least significant limb first.
struct Limbs {
    limbs: [u64; LIMBS],
    used: usize,
}

impl Default for Limbs {
    fn default() -> Self {
        Limbs {
            limbs: [0; LIMBS],
            used: 0,
        }
    }
}

impl Limbs {
    fn step(&mut self, factor: u64, summand: u64) {
        let mut carry = summand;
        for limb in &mut self.limbs[..self.used] {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            *limb = product as u64;
            carry = (product >> 64) as u64;
        }
        if carry > 0 {
            self.limbs[self.used] = carry;
            self.used += 1;
        }
    }

    /// Writes `bytes` of it: see [`write_integer`].
    fn write(mut self, out: &mut Vec<u8>, is_negative: bool) {
        let mut turn = 0;
        if is_negative {
            turn = u64::MAX;
            for limb in &mut self.limbs[..self.used] {
                let borrows = *limb == 0;
                *limb = limb.wrapping_sub(1);
                if !borrows {
                    break;
                }
            }
        }
        let zeros = self
            .limbs
            .iter()
            .rev()
            .take_while(|limb| **limb == 0)
            .count();
        let top = LIMBS - zeros;
        let bits = top * 64
            - top
                .checked_sub(1)
                .map_or(0, |index| self.limbs[index].leading_zeros() as usize);
        let length = bits / 8 + 1;
        write::long(out, length as i64);
        for index in (0..length.div_ceil(8)).rev() {
            let limb = self.limbs.get(index).copied().unwrap_or(0) ^ turn;
            let bytes = limb.to_be_bytes();
            let skipped = bytes.len().saturating_sub(length - index * 8);
            out.extend_from_slice(&bytes[skipped..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::{BigInt, Sign};
    use proptest::prelude::*;

    use super::*;
    use crate::stored::numeric_forms::{INFINITY, MINUS_INFINITY, NAN, long, payload, short};

    fn of(precision: u16, scale: u16) -> Decimal {
        match Decimal::new(precision, scale) {
            Some(decimal) => decimal,
            None => panic!("numeric({precision},{scale}) is no decimal"),
        }
    }

    /// The bytes without their length, which must be right.
    fn written(payload: &[u8], decimal_type: Decimal) -> Result<Vec<u8>, ValueError> {
        let mut out = b"before".to_vec();
        decimal(&mut out, payload, decimal_type)?;
        let bytes = out.split_off(6);
        let mut expected = Vec::new();
        let length_bytes = if bytes.len() <= 64 { 1 } else { 2 };
        write::bytes(&mut expected, &bytes[length_bytes..]);
        assert_eq!(bytes, expected, "length");
        Ok(bytes[length_bytes..].to_vec())
    }

    /// What arithmetic with integers of any size makes of stored digits.
    fn expected(
        is_negative: bool,
        weight: i16,
        digits: &[u16],
        decimal: Decimal,
    ) -> Result<Vec<u8>, ValueError> {
        let ten = BigInt::from(10);
        let number = digits
            .iter()
            .fold(BigInt::ZERO, |number, digit| number * 10_000 + *digit);
        let behind = i32::from(weight) + 1 - digits.len() as i32;
        let power = 4 * behind + i32::from(decimal.scale);
        let factor = ten.pow(power.unsigned_abs());
        let unscaled = if power >= 0 {
            number * factor
        } else if &number % &factor == BigInt::ZERO {
            number / factor
        } else {
            return Err(ValueError::DecimalOverflow);
        };
        if unscaled >= ten.pow(u32::from(decimal.precision)) {
            return Err(ValueError::DecimalOverflow);
        }
        let unscaled = if is_negative { -unscaled } else { unscaled };
        Ok(unscaled.to_signed_bytes_be())
    }

    #[test]
    fn numbers_lose_their_point() {
        for (is_negative, scale, weight, digits, decimal, bytes) in [
            (false, 0, 0, &[][..], of(1, 0), &[0][..]),
            (true, 2, 0, &[], of(10, 2), &[0]),
            (false, 2, 0, &[1], of(10, 2), &[100]),
            (false, 2, 0, &[1, 2700], of(10, 2), &[127]),
            (false, 2, 0, &[1, 2800], of(10, 2), &[0, 128]),
            (true, 2, 0, &[1, 2800], of(10, 2), &[0x80]),
            (true, 2, 0, &[1, 2900], of(10, 2), &[0xFF, 0x7F]),
            (true, 0, 0, &[1], of(1, 0), &[0xFF]),
            (false, 5, -1, &[500], of(5, 5), &[0x13, 0x88]),
            (false, 4, -1, &[1], of(4, 4), &[1]),
        ] {
            for payload in [short, long].map(|form| form(is_negative, scale, weight, digits)) {
                assert_eq!(
                    written(&payload, decimal).as_deref(),
                    Ok(bytes),
                    "{payload:?}"
                );
            }
        }
    }

    /// The numbers around each power of two and ten are where a width may be wrong.
    #[test]
    fn every_width_is_right_at_its_edges() {
        let powers_of_two = (0..3_322).map(|bits| BigInt::from(2).pow(bits));
        let powers_of_ten = (0..1_000).map(|digits| BigInt::from(10).pow(digits));
        for power in powers_of_two.chain(powers_of_ten) {
            for near in -1..=1 {
                let number: BigInt = &power + near;
                let digits = number.to_radix_be_10000();
                let weight = digits.len() as i16 - 1;
                for is_negative in [false, true] {
                    let payload = long(is_negative, 0, weight, &digits);
                    let expected = if is_negative {
                        -&number
                    } else {
                        number.clone()
                    };
                    assert_eq!(
                        written(&payload, of(1000, 0)),
                        Ok(expected.to_signed_bytes_be()),
                        "{expected}"
                    );
                }
            }
        }
    }

    trait Base10000 {
        fn to_radix_be_10000(&self) -> Vec<u16>;
    }

    impl Base10000 for BigInt {
        fn to_radix_be_10000(&self) -> Vec<u16> {
            assert_ne!(self.sign(), Sign::Minus);
            let text = self.to_string();
            let text = format!("{}{text}", "0".repeat((4 - text.len() % 4) % 4));
            text.as_bytes()
                .chunks(4)
                .map(|four| {
                    four.iter()
                        .fold(0, |digit, c| digit * 10 + u16::from(c - b'0'))
                })
                .collect()
        }
    }

    #[test]
    fn what_a_decimal_cannot_hold_is_an_error() {
        for header in [NAN, INFINITY, MINUS_INFINITY] {
            let special = written(&payload(&[header]), of(10, 2));
            assert_eq!(special, Err(ValueError::NoDecimal));
        }
        for (scale, weight, digits, decimal) in [
            (0, 0, &[1000][..], of(3, 0)),
            (1, 0, &[1, 1000], of(3, 0)),
            (2, 0, &[100], of(4, 2)),
            (3, 0, &[1, 1230], of(6, 2)),
            (0, i16::MAX, &[1], of(1000, 0)),
            (16_383, i16::MIN, &[1], of(1000, 1000)),
        ] {
            let payload = long(false, scale, weight, digits);
            assert_eq!(
                written(&payload, decimal),
                Err(ValueError::DecimalOverflow),
                "{digits:?} as {decimal:?}"
            );
        }
        let malformed = short(false, 0, 0, &[10_000]);
        assert_eq!(
            written(&malformed, of(10, 0)),
            Err(ValueError::MalformedNumeric)
        );
    }

    #[test]
    fn a_modifier_says_whether_there_is_a_decimal() {
        let modifier = |precision: i32, scale: i32| (precision << 16 | scale & 0x7FF) + 4;
        for (precision, scale) in [(1, 0), (10, 2), (1000, 0), (1000, 1000)] {
            assert_eq!(
                Decimal::of_modifier(modifier(precision, scale)),
                Some(of(precision as u16, scale as u16))
            );
        }
        for modifier in [
            -1,
            0,
            3,
            modifier(5, -2),
            modifier(2, 5),
            modifier(0, 0),
            modifier(1001, 0),
            i32::MIN,
            i32::MAX,
        ] {
            assert_eq!(Decimal::of_modifier(modifier), None, "{modifier}");
        }
    }

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        let precision = prop_oneof![1..=40_u16, 1..=1000_u16];
        precision
            .prop_flat_map(|precision| (Just(precision), 0..=precision))
            .prop_map(|(precision, scale)| of(precision, scale))
    }

    proptest! {
        #[test]
        fn a_decimal_is_what_integers_of_any_size_say(
            is_negative: bool,
            weight in prop_oneof![-3..10_i16, -80..260_i16],
            digits in prop::collection::vec(
                prop_oneof![Just(0), Just(9_999), (1..10_u16).prop_map(|d| d * 1000), 0..10_000_u16],
                0..12,
            ),
            decimal in any_decimal(),
        ) {
            let payload = long(is_negative, 0, weight, &digits);
            prop_assert_eq!(
                written(&payload, decimal),
                expected(is_negative, weight, &digits, decimal)
            );
        }

        #[test]
        fn a_number_that_fits_is_written(
            is_negative: bool,
            decimal in any_decimal(),
            digits in prop::collection::vec(0..10_000_u16, 1..260),
        ) {
            // Cut to the decimal's digits: groups before the point, then those behind it.
            let (before, behind) = (
                usize::from(decimal.precision - decimal.scale) / 4,
                usize::from(decimal.scale) / 4,
            );
            let digits: Vec<u16> = digits.into_iter().take(before + behind).collect();
            let weight = before as i16 - 1;
            let payload = long(is_negative, decimal.scale, weight, &digits);
            let expected = expected(is_negative, weight, &digits, decimal);
            prop_assert!(expected.is_ok());
            prop_assert_eq!(written(&payload, decimal), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(payload: Vec<u8>, decimal in any_decimal()) {
            let _ = decimal_of(&payload, decimal);
        }
    }

    fn decimal_of(payload: &[u8], of: Decimal) -> Result<(), ValueError> {
        decimal(&mut Vec::new(), payload, of)
    }
}
