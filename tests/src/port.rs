//! Free TCP ports on loopback.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range from which Linux takes the ports of outgoing connections (32768 on),
/// so that none of them sits on a server's port while that server restarts.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nothing listens on and that no earlier call returned.
///
/// # Panics
///
/// If the whole range is taken.
pub fn free() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(|e| e.into_inner());
    // Processes that run at once begin at different places.
    let begin = (std::process::id() * 37 % u32::from(RANGE.end - RANGE.start)) as u16;
    let port = RANGE
        .map(|port| RANGE.start + (port - RANGE.start + begin) % (RANGE.end - RANGE.start))
        .find(|&port| !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap_or_else(|| panic!("no port of {RANGE:?} is free on 127.0.0.1"));
    given.insert(port);
    port
}
