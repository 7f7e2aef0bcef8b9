//! `pg_lsn` and `tid`: places in the WAL and in a table.

use super::integer::unsigned;
use crate::Lsn;

/// Writes a `pg_lsn`.
pub fn pg_lsn(out: &mut Vec<u8>, lsn: u64) {
    out.push(b'"');
    out.extend_from_slice(Lsn(lsn).to_string().as_bytes());
    out.push(b'"');
}

/// Writes a `tid` from its six bytes: the block's number in two halves, the line's number.
pub fn tid(out: &mut Vec<u8>, [a, b, c, d, e, f]: &[u8; 6]) {
    let half = |a: &u8, b: &u8| u64::from(u16::from_ne_bytes([*a, *b]));
    out.extend_from_slice(b"\"(");
    unsigned(out, half(a, b) << 16 | half(c, d));
    out.push(b',');
    unsigned(out, half(e, f));
    out.extend_from_slice(b")\"");
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;

    #[test]
    fn places_are_printed_as_postgres_prints_them() {
        assert_eq!(written(|out| pg_lsn(out, 0)), "\"0/0\"");
        assert_eq!(
            written(|out| pg_lsn(out, 0x16_B374_D848)),
            "\"16/B374D848\""
        );
        let [a, b] = 1_u16.to_ne_bytes();
        let [c, d] = 2_u16.to_ne_bytes();
        let [e, f] = 7_u16.to_ne_bytes();
        assert_eq!(
            written(|out| tid(out, &[a, b, c, d, e, f])),
            "\"(65538,7)\""
        );
    }
}
