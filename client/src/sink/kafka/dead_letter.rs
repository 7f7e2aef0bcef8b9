//! A dead letter as a record of Kafka.
//!
//! It says in headers what the change is and why it is here, and holds the bytes that could not be
//! delivered. Those may be the very reason why it is here, so that what does not fit is cut off: a
//! dead letter that could itself not be delivered would stop the stream that it is to keep going.

use super::headers::{self, Cut};
use super::{KafkaSink, size};
use crate::error::Error;
use crate::sink::{DeadLetter, Record, SendError, Token};

/// How much of a reason is kept: no reason of ours is longer, and a server may say anything.
const REASON_BYTES: usize = 1024;

/// What librdkafka may count beyond what the broker does (`RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`).
const COUNTED_BEYOND: u64 = 64;

pub(super) fn send(
    sink: &KafkaSink,
    letter: &DeadLetter<'_>,
    token: Token,
) -> Result<(), SendError> {
    let topic = sink.topic(letter.topic).map_err(SendError::Failed)?;
    let meant_for = match letter.meant_for {
        Some(topic) => Some(sink.topic_name(topic).map_err(SendError::Failed)?),
        None => None,
    };
    let letter = DeadLetter {
        reason: beginning(letter.reason, REASON_BYTES),
        ..*letter
    };
    let unchanged = headers::unchanged_text(letter.headers.unchanged);
    let headers =
        |cut| headers::write_dead_letter(&letter, unchanged.as_deref(), meant_for.as_deref(), cut);
    let limit = topic.limit().unwrap_or(size::ASSUMED);
    let room = limit.min(sink.limit.record).saturating_sub(COUNTED_BEYOND);
    let (key, value, cut) = cut(&letter, room, |cut| {
        let record = Record {
            topic: letter.topic,
            key: Some(&[]),
            value: Some(&[]),
            headers: letter.headers,
        };
        size::alone(&record, headers::lengths(Some(headers(cut).as_borrowed())))
    });
    sink.hand_over(
        &topic.name,
        key,
        Some(value),
        Some(headers(cut)),
        token,
        None,
    )
    .map_err(|error| match error {
        SendError::Large => SendError::Failed(Error::failed(format!(
            "topic \"{}\" takes no dead letter, not even one without a value",
            topic.name
        ))),
        other => other,
    })
}

/// As much of key and value as has room beside the headers, whose batch `around` counts: the key
/// whole or not at all, of the value its beginning.
fn cut<'a>(
    letter: &DeadLetter<'a>,
    room: u64,
    around: impl Fn(Cut) -> u64,
) -> (Option<&'a [u8]>, &'a [u8], Cut) {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| bytes.len() as u64);
    let most = Cut {
        key: Some(length(letter.key)),
        value: Some(length(letter.value)),
    };
    // Each of three lengths before them may come to take four bytes more.
    let mut left = room.saturating_sub(around(most) + 3 * 4);
    let mut cut = Cut::default();
    let key = letter.key.filter(|key| key.len() as u64 <= left);
    match key {
        Some(key) => left -= key.len() as u64,
        None => cut.key = letter.key.map(|key| key.len() as u64),
    }
    let value = letter.value.unwrap_or_default();
    let kept = usize::try_from(left).map_or(value.len(), |left| value.len().min(left));
    if kept < value.len() {
        cut.value = Some(value.len() as u64);
    }
    (key, &value[..kept], cut)
}

/// The beginning of a text, at most `bytes` of it.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use headwater_protocol::Lsn;

    use super::*;
    use crate::sink::{Headers, TopicId};

    fn letter<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> DeadLetter<'a> {
        DeadLetter {
            topic: TopicId(0),
            key,
            value,
            headers: Headers {
                op: "u",
                lsn: Lsn(1),
                seq: 0,
                transaction: None,
                unchanged: &[],
                fetched: false,
            },
            relation: Some("public.orders"),
            meant_for: None,
            reason: "it is too large",
            bytes: Some(10_000),
            limit: Some(1000),
        }
    }

    /// Cut to `room`, with 100 bytes around.
    fn kept(key: &[u8], value: &[u8], room: u64) -> (Option<usize>, usize, Cut) {
        let letter = letter(Some(key), Some(value));
        let (key, value, cut) = cut(&letter, room, |_| 100);
        (key.map(<[u8]>::len), value.len(), cut)
    }

    #[test]
    fn what_does_not_fit_is_cut_off_the_value_and_said() {
        let (key, value) = ([1; 50], [2; 500]);
        assert_eq!(kept(&key, &value, 662), (Some(50), 500, Cut::default()));
        let cut = Cut {
            value: Some(500),
            key: None,
        };
        assert_eq!(kept(&key, &value, 661), (Some(50), 499, cut));
        assert_eq!(kept(&key, &value, 162), (Some(50), 0, cut));
    }

    #[test]
    fn a_key_is_whole_or_not_there() {
        let cut = Cut {
            value: Some(500),
            key: Some(50),
        };
        assert_eq!(kept(&[1; 50], &[2; 500], 161), (None, 49, cut));
        assert_eq!(kept(&[1; 50], &[2; 500], 0), (None, 0, cut));
    }

    #[test]
    fn a_change_without_bytes_has_an_empty_value() {
        let (key, value, cut) = cut(&letter(None, None), 1000, |_| 100);
        assert_eq!((key, value, cut), (None, &[][..], Cut::default()));
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(beginning("grün", 3), "gr");
        assert_eq!(beginning("grün", 4), "grü");
        assert_eq!(beginning("grün", 100), "grün");
    }
}
