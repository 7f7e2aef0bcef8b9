//! Integers, two digits at a time.

/// The digits of 00 to 99.
pub(super) const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut table = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        table[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    table
};

/// The longest number, 18446744073709551615.
const MAX_DIGITS: usize = 20;

/// Writes a signed number: `smallint`, `integer`, `bigint`.
pub fn integer(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    unsigned(out, number.unsigned_abs());
}

/// Writes an unsigned number.
pub fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    while number >= 100 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(&TWO_DIGITS[(number % 100) as usize]);
        number /= 100;
    }
    let [tens, ones] = TWO_DIGITS[number as usize];
    start -= 1;
    digits[start] = ones;
    if number >= 10 {
        start -= 1;
        digits[start] = tens;
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_range_are_printed() {
        for number in [0, 9, 10, 99, 100, -1, i64::MAX, i64::MIN] {
            assert_eq!(written(|out| integer(out, number)), number.to_string());
        }
        assert_eq!(written(|out| unsigned(out, u64::MAX)), u64::MAX.to_string());
    }

    proptest! {
        #[test]
        fn a_number_prints_as_it_is(number: i64, shift in 0..64_u32) {
            let number = number >> shift;
            prop_assert_eq!(written(|out| integer(out, number)), number.to_string());
        }
    }
}
