//! The shortest decimal that reads back as the same float, as the server prints it.
//!
//! Postgres does not accept the bounds of the rounding interval, so for some floats it
//! prints other digits than the common shortest-float libraries (its
//! `src/common/d2s.c` says why). Its own functions are therefore the only exact ones.

use std::ffi::{c_char, c_int};

unsafe extern "C" {
    // src/include/common/shortest_dec.h. Both write at most the length below plus a
    // terminator, return the number of characters, allocate nothing and raise nothing,
    // so they need no guard.
    fn float_to_shortest_decimal_buf(value: f32, result: *mut c_char) -> c_int;
    fn double_to_shortest_decimal_buf(value: f64, result: *mut c_char) -> c_int;
}

/// `DOUBLE_SHORTEST_DECIMAL_LEN`, the longer of the two, terminator included.
const SHORTEST_DECIMAL_LEN: usize = 25;

/// Appends a float4 as `float4out` prints it.
pub(crate) fn push_f32(out: &mut Vec<u8>, value: f32) {
    push(out, |buffer| {
        // SAFETY: the buffer holds the longest result.
        unsafe { float_to_shortest_decimal_buf(value, buffer) }
    });
}

/// Appends a float8 as `float8out` prints it.
pub(crate) fn push_f64(out: &mut Vec<u8>, value: f64) {
    push(out, |buffer| {
        // SAFETY: the buffer holds the longest result.
        unsafe { double_to_shortest_decimal_buf(value, buffer) }
    });
}

fn push(out: &mut Vec<u8>, print: impl FnOnce(*mut c_char) -> c_int) {
    let mut buffer = [0_u8; SHORTEST_DECIMAL_LEN];
    let length = print(buffer.as_mut_ptr().cast());
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len());
    out.extend_from_slice(&buffer[..length]);
}
