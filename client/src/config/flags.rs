//! `--take-over=false`: options that are there or not, with a value on the command line.
//!
//! Environment and file can set such an option, and only a value takes it back. clap could take
//! one, as that of an optional argument, but its help would then show every such option as
//! `--take-over[=<BOOL>]`, which nearly nobody needs. So the words are read here, for all of
//! them alike, and clap finds the option there, or not.

use std::ffi::{OsStr, OsString};

use super::table::{Kind, Setting};
use crate::error::{Error, ErrorKind, Result};

/// What a value has to be.
pub(super) const EXPECTED: &str = "expected true or false, 1 or 0, yes or no, on or off";

pub(super) fn boolean(value: &OsStr) -> Option<bool> {
    match value.to_str()?.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Words as clap takes them: of an option that is there or not, without a value.
///
/// # Errors
/// Of kind `Usage` where a value says neither.
pub(super) fn without_values(words: &[OsString], settings: &[Setting]) -> Result<Vec<OsString>> {
    let mut plain = Vec::with_capacity(words.len());
    let mut words = words.iter();
    for word in words.by_ref() {
        match valued(word, settings) {
            None => plain.push(word.clone()),
            Some((option, value)) => match boolean(OsStr::new(value)) {
                Some(true) => plain.push(option.into()),
                Some(false) => {}
                None => {
                    let what = format!("invalid value '{value}' for {option}: {EXPECTED}");
                    return Err(Error::new(ErrorKind::Usage, what));
                }
            },
        }
        // What follows are no options.
        if word == "--" {
            break;
        }
    }
    plain.extend(words.cloned());
    Ok(plain)
}

/// The words of a command line that is wrong or asks for help, for clap to say so, which would
/// complain about such a value first.
pub(super) fn as_if_there(words: &[OsString], settings: &[Setting]) -> Vec<OsString> {
    let words = words.iter();
    words
        .map(|word| {
            valued(word, settings).map_or_else(|| word.clone(), |(option, _)| option.into())
        })
        .collect()
}

/// `--take-over` and `false`, of `--take-over=false`.
fn valued<'a>(word: &'a OsStr, settings: &[Setting]) -> Option<(&'a str, &'a str)> {
    let (option, value) = word.to_str()?.split_once('=')?;
    let key = option.strip_prefix("--")?;
    let is_flag = |setting: &Setting| setting.key == key && setting.kind() == Kind::Flag;
    settings.iter().any(is_flag).then_some((option, value))
}
