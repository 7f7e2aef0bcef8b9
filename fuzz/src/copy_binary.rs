//! The binary COPY of a snapshot. The first byte says how its messages cut it.

use headwater::source::snapshot::{CopyBinary, CopyError};

/// Rows, end and error are the same, however messages cut the bytes.
pub(crate) fn target(bytes: &[u8]) {
    let Some((&size, copy)) = bytes.split_first() else {
        return;
    };
    let whole = read([copy].into_iter());
    let cut = read(copy.chunks(usize::from(size).max(1)));
    assert_eq!(whole, cut, "in messages of {size} bytes");
}

/// Rows up to the end or an error, and whether the copy was whole.
fn read<'a>(messages: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<bool, CopyError>) {
    let (mut rows, mut reader) = (Vec::new(), CopyBinary::default());
    for message in messages {
        let pushed = reader.push(message, &mut |row: &[u8]| {
            rows.push(row.to_vec());
            Ok(())
        });
        if let Err(error) = pushed {
            return (rows, Err(error));
        }
    }
    let is_complete = reader.is_complete();
    (rows, Ok(is_complete))
}
