//! LSNs, as they stand in options, state records and headers.

use headwater_protocol::Lsn;

/// What is read prints as something that reads the same.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn), "{text:?}");
    }
}
