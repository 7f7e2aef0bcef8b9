//! State records: anybody who may write to the state topic may have written them.

use headwater::state::record;

/// What is read is written as something that reads the same.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(state) = record::decode(bytes) else {
        return;
    };
    let epoch = record::epoch(bytes).unwrap_or_default();
    match record::encode(&state, epoch) {
        Ok(written) => {
            assert_eq!(record::epoch(&written), Some(epoch));
            assert_eq!(record::decode(&written), Ok(state));
        }
        Err(error) => panic!("{error}"),
    }
}
