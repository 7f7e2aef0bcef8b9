//! Requests to copy tables again: any role that may write a logical message writes them.

use headwater::snapshot_request::SnapshotRequest;

/// What is read is written as something that reads the same.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(request) = SnapshotRequest::decode(bytes) else {
        return;
    };
    match request.encode() {
        Ok(written) => match SnapshotRequest::decode(written.as_bytes()) {
            Ok(again) => assert_eq!(again, request),
            Err(error) => panic!("{error}: {written}"),
        },
        // Quotes and wildcards may take more room than they did.
        Err(_) => assert!(bytes.len() > headwater::snapshot_request::MAX_BYTES / 8),
    }
}
