//! Reads what `COPY (SELECT one bytea) TO STDOUT (FORMAT binary)` sends.
//!
//! ```text
//! "PGCOPY\n\xff\r\n\0"  flags u32  extension: u32, [u8]
//! row:      1 u16  length u32  [u8; length]
//! trailer:  0xFFFF
//! ```
//!
//! Postgres sends one row a message, though the protocol does not promise it. So a
//! row is taken straight from the message it lies in, and only one that a message cuts
//! is put together in a buffer.

/// The first bytes of the format.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Flags of which a reader must know every one.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;

/// The column count that ends the rows.
const TRAILER: i16 = -1;

/// The length that stands for null.
const NULL: u32 = u32::MAX;

/// The bytes are not a copy of one column that is never null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// Another format, or a version of it that this reader does not know.
    #[error("the server sent no binary copy that this release knows")]
    Header,
    /// A row with another number of columns.
    #[error("a copied row has {0} columns instead of one")]
    Columns(i16),
    /// A row that was not encoded.
    #[error("a copied row is null")]
    Null,
    /// Bytes behind the trailer.
    #[error("bytes follow the end of a copy")]
    AfterEnd,
}

/// An incremental reader.
#[derive(Debug, Default)]
pub struct CopyBinary {
    state: State,
    /// The beginning of something that the last message cut.
    cut: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Rows,
    Ended,
}

/// Something whole at the beginning of the bytes: how long it is, and the row in it.
struct Piece<'a> {
    length: usize,
    row: Option<&'a [u8]>,
}

impl CopyBinary {
    /// Reads one message and hands on each row that is complete with it. An error of
    /// `on_row` ends the reading.
    pub fn push<E: From<CopyError>>(
        &mut self,
        message: &[u8],
        on_row: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.cut.is_empty() {
            let read = self.read(message, on_row)?;
            self.cut.extend_from_slice(&message[read..]);
        } else {
            let mut bytes = std::mem::take(&mut self.cut);
            bytes.extend_from_slice(message);
            let read = self.read(&bytes, on_row)?;
            bytes.drain(..read);
            self.cut = bytes;
        }
        Ok(())
    }

    /// Whether the trailer was read: a copy that ends before has lost rows.
    pub fn is_complete(&self) -> bool {
        self.state == State::Ended && self.cut.is_empty()
    }

    fn read<E: From<CopyError>>(
        &mut self,
        bytes: &[u8],
        on_row: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut read = 0;
        while let Some(piece) = self.piece(&bytes[read..])? {
            read += piece.length;
            if let Some(row) = piece.row {
                on_row(row)?;
            }
        }
        Ok(read)
    }

    fn piece<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Piece<'a>>, CopyError> {
        match self.state {
            State::Header => self.header(bytes),
            State::Rows => self.row(bytes),
            State::Ended if bytes.is_empty() => Ok(None),
            State::Ended => Err(CopyError::AfterEnd),
        }
    }

    fn header<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Piece<'a>>, CopyError> {
        let known = bytes.len().min(SIGNATURE.len());
        if bytes[..known] != SIGNATURE[..known] {
            return Err(CopyError::Header);
        }
        let Some((flags, extension)) = u32_at(bytes, 11).zip(u32_at(bytes, 15)) else {
            return Ok(None);
        };
        if flags & CRITICAL_FLAGS != 0 {
            return Err(CopyError::Header);
        }
        let length = 19 + extension as usize;
        if bytes.len() < length {
            return Ok(None);
        }
        self.state = State::Rows;
        Ok(Some(Piece { length, row: None }))
    }

    fn row<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Piece<'a>>, CopyError> {
        let Some(columns) = bytes.first_chunk::<2>() else {
            return Ok(None);
        };
        match i16::from_be_bytes(*columns) {
            1 => {}
            TRAILER => {
                self.state = State::Ended;
                return Ok(Some(Piece {
                    length: 2,
                    row: None,
                }));
            }
            other => return Err(CopyError::Columns(other)),
        }
        let Some(length) = u32_at(bytes, 2) else {
            return Ok(None);
        };
        if length == NULL {
            return Err(CopyError::Null);
        }
        let end = 6 + length as usize;
        Ok(bytes.get(6..end).map(|row| Piece {
            length: end,
            row: Some(row),
        }))
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*field))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn copy_of(rows: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 4]);
        bytes.extend(3_u32.to_be_bytes());
        bytes.extend(*b"ext");
        for row in rows {
            bytes.extend(1_u16.to_be_bytes());
            bytes.extend(u32::try_from(row.len()).unwrap().to_be_bytes());
            bytes.extend(row);
        }
        bytes.extend([0xFF, 0xFF]);
        bytes
    }

    fn read(messages: &[&[u8]]) -> Result<(Vec<Vec<u8>>, bool), CopyError> {
        let mut rows = Vec::new();
        let mut reader = CopyBinary::default();
        for message in messages {
            reader.push(message, &mut |row: &[u8]| {
                rows.push(row.to_vec());
                Ok::<(), CopyError>(())
            })?;
        }
        Ok((rows, reader.is_complete()))
    }

    #[test]
    fn a_copy_without_its_trailer_is_not_complete() {
        let bytes = copy_of(&[b"a".to_vec()]);
        assert_eq!(
            read(&[&bytes[..bytes.len() - 2]]),
            Ok((vec![b"a".to_vec()], false))
        );
    }

    #[test]
    fn what_is_no_such_copy_is_refused() {
        let bytes = copy_of(&[b"a".to_vec()]);
        let header = bytes.len() - 2 - 7;
        let with = |index: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[index] = byte;
            bytes
        };
        for (bytes, error) in [
            (with(0, b'p'), CopyError::Header),
            (with(11, 1), CopyError::Header),
            (with(header + 1, 2), CopyError::Columns(2)),
            ([bytes.as_slice(), b"x"].concat(), CopyError::AfterEnd),
        ] {
            assert_eq!(read(&[&bytes]), Err(error));
        }
        let null = [&bytes[..header], &[0, 1, 0xFF, 0xFF, 0xFF, 0xFF]].concat();
        assert_eq!(read(&[&null]), Err(CopyError::Null));
    }

    proptest! {
        #[test]
        fn rows_are_the_same_however_messages_cut_them(
            rows in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let bytes = copy_of(&rows);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            ends.extend([0, bytes.len()]);
            ends.sort_unstable();
            let messages: Vec<&[u8]> = ends.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(read(&messages), Ok((rows, true)));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut header = copy_of(&[]);
            header.truncate(header.len() - 2);
            let _ = read(&[&bytes]);
            let _ = read(&[&header, &bytes]);
        }
    }
}
