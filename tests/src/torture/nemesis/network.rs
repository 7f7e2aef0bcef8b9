//! Faults of the network between the client and a server.

use std::time::Duration;

use crate::Random;
use crate::torture::proxy::{Proxy, Weather};

pub(super) fn cut(proxy: &Proxy) {
    proxy.set(Weather::Closed);
    proxy.cut();
}

pub(super) fn slow(proxy: &Proxy, random: &mut Random) {
    proxy.set(Weather::Slow(Duration::from_millis(10 + random.below(400))));
}

pub(super) fn silence(proxy: &Proxy) {
    proxy.set(Weather::Silent);
}

/// What was held arrives after all, or never does.
pub(super) fn end_silence(proxy: &Proxy, random: &mut Random) {
    if random.below(2) == 0 {
        proxy.cut();
    }
    clear(proxy);
}

pub(super) fn clear(proxy: &Proxy) {
    proxy.set(Weather::Fair);
}
