//! Random values, as texts that Postgres reads.

use crate::Random;

/// Up to `most` of the pieces, in any order.
pub(super) fn of(random: &mut Random, most: u64, pieces: &[&str]) -> String {
    let count = random.below(most + 1);
    (0..count)
        .map(|_| pieces[random.below(pieces.len() as u64) as usize])
        .collect()
}

/// Characters of one to four bytes, among them all that JSON escapes.
pub(super) fn unicode(random: &mut Random, most: u64) -> String {
    let count = random.below(most + 1);
    (0..count)
        .map(|_| {
            let bound = [0x20, 0x80, 0x800, 0xD800, 0x11_0000][random.below(5) as usize];
            // What is no character, or has no place in a text, is a quote.
            let code = random.below(bound) as u32;
            char::from_u32(code).filter(|c| *c != '\0').unwrap_or('"')
        })
        .collect()
}

pub(super) fn float4(random: &mut Random) -> String {
    let number = f32::from_bits(random.number() as u32);
    if number.is_finite() {
        format!("{number:e}")
    } else {
        "NaN".to_owned()
    }
}

pub(super) fn float8(random: &mut Random) -> String {
    let number = f64::from_bits(random.number());
    if number.is_finite() {
        format!("{number:e}")
    } else {
        "NaN".to_owned()
    }
}

pub(super) fn numeric(random: &mut Random) -> String {
    let digits = ["0", "00", "1", "9", "99", "5", "42"];
    let sign = ["", "-"][random.below(2) as usize];
    let whole = of(random, 40, &digits);
    let fraction = of(random, 40, &digits);
    format!("{sign}0{whole}.{fraction}0")
}

pub(super) fn date(random: &mut Random, last_year: u64) -> String {
    let (month, day) = (random.below(12) + 1, random.below(28) + 1);
    match random.below(4) {
        0 => format!("{:04}-{month:02}-{day:02} BC", random.below(4_713) + 1),
        1 => format!("{:04}-{month:02}-{day:02}", random.below(last_year - 1) + 1),
        _ => format!("{}-{month:02}-{day:02}", random.below(200) + 1900),
    }
}

pub(super) fn time(random: &mut Random) -> String {
    let (hours, minutes, seconds) = (random.below(24), random.below(60), random.below(60));
    let micros = random.below(1_000_000) / 10_u64.pow(random.below(7) as u32);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{micros:06}")
}

pub(super) fn timestamp(random: &mut Random) -> String {
    let (date, time) = (date(random, 294_276), time(random));
    match date.strip_suffix(" BC") {
        Some(day) => format!("{day} {time} BC"),
        None => format!("{date} {time}"),
    }
}

pub(super) fn interval(random: &mut Random) -> String {
    let mut signed = |bound: u64| random.below(2 * bound) as i64 - bound as i64;
    let (months, days, hours) = (signed(100), signed(100), signed(1_000));
    format!("{months} mons {days} days {hours}:{}", &time(random)[3..])
}

/// An address with any number of zero words in it, and all of it as its prefix: `cidr`
/// takes no bits behind one.
pub(super) fn address(random: &mut Random) -> String {
    if random.below(3) == 0 {
        let octets = (random.number() as u32).to_be_bytes();
        return std::net::Ipv4Addr::from(octets).to_string();
    }
    let mut words = [0; 8];
    for word in &mut words {
        *word = [0, 0, 1, random.number() as u16, 0xFFFF][random.below(5) as usize];
    }
    std::net::Ipv6Addr::from(words).to_string()
}

pub(super) fn points(random: &mut Random, count: u64) -> String {
    let mut coordinate = || (random.number() as i64 >> random.below(64)) as f64 / 8.0;
    let points: Vec<String> = (0..count)
        .map(|_| format!("({:e},{:e})", coordinate(), coordinate()))
        .collect();
    points.join(",")
}

pub(super) fn hstore(random: &mut Random) -> String {
    let quoted = |text: String| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    };
    let count = random.below(6);
    let pairs: Vec<String> = (0..count)
        .map(|_| {
            let key = quoted(unicode(random, 10));
            let value = match random.below(4) {
                0 => "NULL".to_owned(),
                _ => quoted(unicode(random, 20)),
            };
            format!("{key}=>{value}")
        })
        .collect();
    pairs.join(",")
}

/// A JSON document without CR, LF or TAB between its tokens.
pub(super) fn document(random: &mut Random, depth: u64) -> String {
    let string = |random: &mut Random| {
        let text = unicode(random, 12);
        serde_json::to_string(&text).unwrap_or_default()
    };
    let count = random.below(4);
    match random.below(if depth == 0 { 3 } else { 5 }) {
        0 => ["null", "true", "false"][random.below(3) as usize].to_owned(),
        1 => format!(
            "{}.{}0",
            random.number() as i64,
            of(random, 20, &["0", "7", "12"])
        ),
        2 => string(random),
        3 => {
            let elements: Vec<String> = (0..count).map(|_| document(random, depth - 1)).collect();
            format!("[{}]", elements.join(", "))
        }
        _ => {
            let members: Vec<String> = (0..count)
                .map(|_| format!("{}: {}", string(random), document(random, depth - 1)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}
