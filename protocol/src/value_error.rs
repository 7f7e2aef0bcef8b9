//! Why a value cannot be written.

use std::fmt;

/// The bytes of a value are not what its type says, or the format has no form for it. The
/// message holds none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a `numeric` as the server stores it.
    MalformedNumeric,
    /// Not a `jsonb` as the server stores it.
    MalformedJsonb,
    /// Not an `inet` or `cidr` as the server stores it.
    MalformedNetwork,
    /// Not a `bit` or `varbit` as the server stores it.
    MalformedBits,
    /// Not an `hstore` as its extension has stored it since 9.0.
    MalformedHstore,
    /// Not a range or multirange as the server stores it.
    MalformedRange,
    /// A `jsonb` whose text would be longer than it may be.
    TooLarge,
    /// There is no memory for the text.
    OutOfMemory,
    /// NaN or an infinity where the column's type in Avro is a decimal.
    NoDecimal,
    /// A number with more digits than the decimal of its column has.
    DecimalOverflow,
    /// A finite date or timestamp that Avro, which counts from 1970, has no number for.
    OutsideEpoch,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueError::MalformedNumeric => "malformed numeric value",
            ValueError::MalformedJsonb => "malformed jsonb value",
            ValueError::MalformedNetwork => "malformed network address",
            ValueError::MalformedBits => "malformed bit string",
            ValueError::MalformedHstore => "malformed hstore value",
            ValueError::MalformedRange => "malformed range value",
            ValueError::TooLarge => "jsonb value whose text is too large",
            ValueError::OutOfMemory => "no memory for its text",
            ValueError::NoDecimal => "NaN or infinity, which an Avro decimal cannot hold",
            ValueError::DecimalOverflow => "number with more digits than its Avro decimal has",
            ValueError::OutsideEpoch => {
                "date or timestamp too far from 1970 for Avro's days and microseconds"
            }
        })
    }
}

impl std::error::Error for ValueError {}
