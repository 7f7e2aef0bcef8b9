//! `inet`, `cidr`, `macaddr` and `macaddr8`.
//!
//! An address is stored as its family, its prefix length in bits and 4 or 16 bytes in
//! network order, without padding.

use super::ValueError;
use super::bytes::HEX;
use super::integer::unsigned;

/// `PGSQL_AF_INET`.
const IPV4: u8 = 2;
/// `PGSQL_AF_INET6`: the one after, whatever the system's own number is.
const IPV6: u8 = 3;

/// The words of an IPv6 address.
const WORDS: usize = 8;

/// Writes an `inet` from the bytes that follow its varlena header: the prefix length only
/// where it is not the whole address.
pub fn inet(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), ValueError> {
    write_network(out, payload, false)
}

/// Writes a `cidr` from the bytes that follow its varlena header: always with its prefix
/// length.
pub fn cidr(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), ValueError> {
    write_network(out, payload, true)
}

/// Writes a `macaddr` or `macaddr8`: its bytes in hexadecimal, colons between.
pub fn macaddr(out: &mut Vec<u8>, address: &[u8]) {
    for (index, byte) in address.iter().enumerate() {
        out.push(if index == 0 { b'"' } else { b':' });
        out.extend_from_slice(&HEX[usize::from(*byte)]);
    }
    out.push(b'"');
}

fn write_network(out: &mut Vec<u8>, payload: &[u8], always_prefix: bool) -> Result<(), ValueError> {
    let [family, bits, address @ ..] = payload else {
        return Err(ValueError::MalformedNetwork);
    };
    let whole = match *family {
        IPV4 => 32,
        IPV6 => 128,
        _ => return Err(ValueError::MalformedNetwork),
    };
    if *bits > whole {
        return Err(ValueError::MalformedNetwork);
    }
    out.push(b'"');
    match (*family, address.first_chunk(), address.first_chunk()) {
        (IPV4, Some(address), _) => write_ipv4(out, address),
        (IPV6, _, Some(address)) => write_ipv6(out, address),
        _ => return Err(ValueError::MalformedNetwork),
    }
    if always_prefix || *bits != whole {
        out.push(b'/');
        unsigned(out, u64::from(*bits));
    }
    out.push(b'"');
    Ok(())
}

fn write_ipv4(out: &mut Vec<u8>, address: &[u8; 4]) {
    for (index, byte) in address.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        unsigned(out, u64::from(*byte));
    }
}

/// The first longest run of two or more zero words becomes `::`. An address that embeds an
/// IPv4 one (`::a.b.c.d`, `::ffff:a.b.c.d`) ends in that.
fn write_ipv6(out: &mut Vec<u8>, address: &[u8; 16]) {
    let (pairs, _) = address.as_chunks::<2>();
    let mut words = [0; WORDS];
    for (word, pair) in words.iter_mut().zip(pairs) {
        *word = u16::from_be_bytes(*pair);
    }
    let zeros = longest_zeros(&words);
    let embeds_ipv4 = zeros.start == 0
        && match zeros.len() {
            6 => true,
            7 => words[7] != 1,
            5 => words[5] == 0xFFFF,
            _ => false,
        };
    for (index, word) in words.into_iter().enumerate() {
        if zeros.contains(&index) {
            if index == zeros.start {
                out.push(b':');
            }
            continue;
        }
        if index > 0 {
            out.push(b':');
        }
        if index == 6 && embeds_ipv4 {
            let [.., a, b, c, d] = *address;
            return write_ipv4(out, &[a, b, c, d]);
        }
        write_word(out, word);
    }
    if zeros.end == WORDS && !zeros.is_empty() {
        out.push(b':');
    }
}

fn longest_zeros(words: &[u16; WORDS]) -> std::ops::Range<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for (index, word) in words.iter().enumerate() {
        if *word != 0 {
            start = index + 1;
        } else if index + 1 - start > longest.len() {
            longest = start..index + 1;
        }
    }
    if longest.len() < 2 { 0..0 } else { longest }
}

/// A word in hexadecimal without zeros in front.
fn write_word(out: &mut Vec<u8>, word: u16) {
    let [[a, b], [c, d]] = word.to_be_bytes().map(|byte| HEX[usize::from(byte)]);
    let digits = [a, b, c, d];
    let zeros = digits[..3]
        .iter()
        .take_while(|digit| **digit == b'0')
        .count();
    out.extend_from_slice(&digits[zeros..]);
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    fn address(family: u8, bits: u8, address: &[u8]) -> Vec<u8> {
        [&[family, bits][..], address].concat()
    }

    fn v6(text: &str) -> [u8; 16] {
        text.parse::<std::net::Ipv6Addr>()
            .map_or([0; 16], |a| a.octets())
    }

    #[test]
    fn a_prefix_stands_where_it_is_not_the_whole_address() {
        for (bits, inet_text, cidr_text) in [
            (32, "10.0.0.255", "10.0.0.255/32"),
            (24, "10.0.0.255/24", "10.0.0.255/24"),
            (0, "10.0.0.255/0", "10.0.0.255/0"),
        ] {
            let stored = address(IPV4, bits, &[10, 0, 0, 255]);
            assert_eq!(
                written(|out| inet(out, &stored).unwrap_or_default()),
                format!("\"{inet_text}\"")
            );
            assert_eq!(
                written(|out| cidr(out, &stored).unwrap_or_default()),
                format!("\"{cidr_text}\"")
            );
        }
    }

    #[test]
    fn the_first_longest_run_of_zeros_is_left_out() {
        for text in [
            "::",
            "::1",
            "1::",
            "2001:db8::1",
            "2001:0:0:1::1",
            "2001:db8:0:1:1:1:1:1",
            "::1.2.3.4",
            "::ffff:1.2.3.4",
            "fe80::1:0:0:1",
        ] {
            assert_eq!(
                written(|out| inet(out, &address(IPV6, 128, &v6(text))).unwrap_or_default()),
                format!("\"{text}\"")
            );
        }
    }

    #[test]
    fn hardware_addresses_have_colons() {
        assert_eq!(
            written(|out| macaddr(out, &[8, 0, 0x2b, 1, 2, 0xFF])),
            "\"08:00:2b:01:02:ff\""
        );
    }

    proptest! {
        #[test]
        fn an_address_reads_back(octets: [u8; 16]) {
            let text = written(|out| inet(out, &address(IPV6, 128, &octets)).unwrap_or_default());
            let parsed: std::net::Ipv6Addr = text.trim_matches('"').parse().unwrap_or(std::net::Ipv6Addr::UNSPECIFIED);
            prop_assert_eq!(parsed.octets(), octets);
        }

        #[test]
        fn no_bytes_make_a_writer_panic(bytes: Vec<u8>) {
            let _ = inet(&mut Vec::new(), &bytes);
            let _ = cidr(&mut Vec::new(), &bytes);
            macaddr(&mut Vec::new(), &bytes);
        }
    }
}
