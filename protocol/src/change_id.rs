//! The name of a change.

use std::fmt;
use std::str::FromStr;

use crate::Lsn;

/// What names a change for ever: where its transaction's commit ends, and its position in
/// the transaction, as the headers `hw.lsn` and `hw.seq` say them. Written
/// `16/B374D878:5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId {
    /// The end of the commit.
    pub lsn: Lsn,
    /// The position, counted from 0 over every change of the transaction.
    pub seq: u64,
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lsn, self.seq)
    }
}

/// The text names no change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseChangeIdError(String);

impl fmt::Display for ParseChangeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" names no change: expected the end of its commit and its position, LSN:SEQ, as \
             in 16/B374D878:5",
            self.0
        )
    }
}

impl std::error::Error for ParseChangeIdError {}

impl FromStr for ChangeId {
    type Err = ParseChangeIdError;

    fn from_str(text: &str) -> Result<Self, ParseChangeIdError> {
        let parse = || -> Option<ChangeId> {
            let (lsn, seq) = text.split_once(':')?;
            let lsn: Lsn = lsn.parse().ok()?;
            let digits = seq.bytes().all(|byte| byte.is_ascii_digit());
            let seq = seq.parse().ok().filter(|_| digits && lsn.is_valid())?;
            Some(ChangeId { lsn, seq })
        };
        parse().ok_or_else(|| ParseChangeIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_as_a_quarantine_names_it() {
        let id = ChangeId {
            lsn: Lsn(0x16_B374_D878),
            seq: 5,
        };
        assert_eq!(id.to_string(), "16/B374D878:5");
        assert_eq!("16/b374d878:5".parse(), Ok(id));
    }

    #[test]
    fn refuses_what_names_no_change() {
        for text in [
            "", ":", "1/2", "1/2:", ":5", "0/0:1", "1/2:+5", "1/2:5:6", "1/2:-1", "12:5",
        ] {
            assert_eq!(
                text.parse::<ChangeId>(),
                Err(ParseChangeIdError(text.to_owned()))
            );
        }
    }
}
