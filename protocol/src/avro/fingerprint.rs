//! A short name for the schemas of a relation, by which whoever reads rows says which it has.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The fingerprint of no bytes, and the polynomial: Avro specification, "Schema Fingerprints",
/// CRC-64-AVRO.
const EMPTY: u64 = 0xC15D_213A_A4D7_A795;

const TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ (EMPTY & (rest & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// CRC-64-AVRO of the texts of both schemas, as they stand in a frame `A`: two descriptions of a
/// table that differ by accident have the same one with a chance of 2⁻⁶⁴. As text, sixteen
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of the schema of keys, if there is one, and of that of values.
    pub fn of(key: Option<&str>, value: &str) -> Self {
        let key = key.unwrap_or_default().bytes();
        // A byte that stands in no text is between the two.
        let bytes = key.chain([0xFF]).chain(value.bytes());
        Fingerprint(crc(bytes))
    }
}

fn crc(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(EMPTY, |crc, byte| {
        (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Fingerprint)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use apache_avro::Schema;
    use apache_avro::rabin::Rabin;

    use super::*;

    #[test]
    fn it_is_the_fingerprint_of_avros_specification() {
        for schema in ["\"int\"", "\"string\"", "\"null\""] {
            let expected = Schema::parse_str(schema).unwrap().fingerprint::<Rabin>();
            let ours = crc(schema.bytes()).to_le_bytes();
            assert_eq!(ours.as_slice(), expected.bytes.as_slice(), "{schema}");
        }
    }

    #[test]
    fn it_tells_apart_what_is_the_keys_and_what_is_the_values() {
        let all = [
            Fingerprint::of(None, "ab"),
            Fingerprint::of(Some("a"), "b"),
            Fingerprint::of(Some("ab"), ""),
        ];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        assert_eq!(all[1].to_string().parse(), Ok(all[1]));
    }
}
