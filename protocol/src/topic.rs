//! Names of schemas and tables in the names of topics.
//!
//! Kafka allows `A-Z a-z 0-9 . _ -`. Every other byte of a name, a dot too, becomes
//! `_xHH_`. An underscore that stands where it could be read as the beginning of such
//! an escape is escaped itself, so that reading the escapes back gives the name again
//! and two names never escape to the same text.

/// The longest name that Kafka allows.
pub const MAX_NAME_BYTES: usize = 249;

/// The topic of a table where the client is given neither template nor prefix: schema and
/// table, `public` left out.
pub fn of_table(schema: &str, table: &str) -> String {
    let mut name = String::new();
    if schema != "public" {
        escape(schema, &mut name);
        name.push('.');
    }
    escape(table, &mut name);
    shorten(name)
}

/// Whether a character stays as it is in an escaped name. Kafka allows the dot as well.
pub fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Appends the name of a schema or a table as it stands in a topic's name.
pub fn escape(name: &str, into: &mut String) {
    for (index, byte) in name.bytes().enumerate() {
        let c = char::from(byte);
        if is_legal(c) && !(c == '_' && reads_as_escape(&name.as_bytes()[index + 1..])) {
            into.push(c);
        } else {
            into.push_str("_x");
            for digit in [byte >> 4, byte & 0xF] {
                into.extend(char::from_digit(u32::from(digit), 16));
            }
            into.push('_');
        }
    }
}

/// Whether an underscore before `rest` would begin what looks like an escape: `rest`
/// is `x`, two digits, and then an underscore or what becomes one when it is escaped.
fn reads_as_escape(rest: &[u8]) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match rest {
        [b'x', high, low, next, ..] => {
            is_digit(*high) && is_digit(*low) && (*next == b'_' || !is_legal(char::from(*next)))
        }
        // The template may put an underscore behind the name.
        [b'x', high, low] => is_digit(*high) && is_digit(*low),
        _ => false,
    }
}

/// Cuts a topic's name that is too long and puts a hash of the whole at its end.
pub fn shorten(name: String) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let hash = format!("-{:016x}", fnv1a(name.as_bytes()));
    let mut short = name;
    // Only ASCII is left in a topic's name, so every byte is a boundary.
    short.truncate(MAX_NAME_BYTES - hash.len());
    short.push_str(&hash);
    short
}

/// FNV-1a, 64 bits: a hash whose value is the same in every release and on every
/// machine. Names that collide under it are found like any others.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
