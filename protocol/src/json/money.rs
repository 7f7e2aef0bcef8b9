//! `money` under lc_monetary `C`.

use super::integer::{TWO_DIGITS, unsigned};

/// Writes a `money` from its cents: `$`, commas between thousands, two decimals.
pub fn money(out: &mut Vec<u8>, cents: i64) {
    out.push(b'"');
    if cents < 0 {
        out.push(b'-');
    }
    out.push(b'$');
    let (whole, fraction) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
    let digits = out.len();
    unsigned(out, whole);
    let mut comma = out.len();
    while comma > digits + 3 {
        comma -= 3;
        out.insert(comma, b',');
    }
    out.push(b'.');
    out.extend_from_slice(&TWO_DIGITS[fraction as usize]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (cents, expected) in [
            (0, "$0.00"),
            (-5, "-$0.05"),
            (99_999, "$999.99"),
            (100_000, "$1,000.00"),
            (12_345_678_901, "$123,456,789.01"),
            (i64::MIN, "-$92,233,720,368,547,758.08"),
        ] {
            assert_eq!(written(|out| money(out, cents)), format!("\"{expected}\""));
        }
    }
}
