//! Sizes on the command line, as Postgres' settings have them: `512MB` is 512 × 1024 × 1024 bytes.

/// Reads a size: digits, and one of B, kB, MB, GB and TB behind them, in any case.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err("a limit of 0 would be passed at once".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("that is more than 64 bits can count".to_owned()),
    }
}

const EXPECTED: &str = "expected a number of bytes, or one with kB, MB, GB or TB, such as 20GB";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_postgres() {
        for (text, expected) in [
            ("1", 1),
            ("4096B", 4096),
            ("64kB", 64 << 10),
            ("512MB", 512 << 20),
            ("20 gb", 20 << 30),
            ("3TB", 3 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "MB",
            "-1",
            "1.5GB",
            "20G",
            "0",
            "0MB",
            "20000000TB",
            "99999999999999999999",
        ] {
            assert!(bytes(text).is_err(), "{text:?} was accepted");
        }
    }
}
