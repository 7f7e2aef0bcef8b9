//! Frames, as the client reads them from a write of the plugin.

use headwater_protocol::frame::{Frames, write};

/// What reads, writes as the very bytes that were read, up to the first error: the reader
/// accepts nothing that the writer would not write.
pub(crate) fn target(bytes: &[u8]) {
    let (mut written, mut failed) = (Vec::new(), false);
    for frame in Frames::new(bytes) {
        assert!(!failed, "a frame follows an error");
        match frame {
            Ok(frame) => write::frame(&mut written, &frame),
            Err(_) => failed = true,
        }
    }
    assert!(bytes.starts_with(&written), "other bytes were written");
    assert_eq!(
        failed,
        written.len() < bytes.len(),
        "either all was read or an error says that it was not"
    );
}
