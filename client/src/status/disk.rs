//! How much room there is where the server writes its WAL.
//!
//! No function of SQL tells. On the server's own machine the file system does, to whoever may
//! read the data directory. That it is the same machine is proved, not guessed: the control file
//! there has to be of the server that was asked.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes that are free for the server's WAL, or why that cannot be known.
///
/// `folder` is `data_directory`, which is told to members of `pg_read_all_settings` alone;
/// `identifier` is what the server says of itself.
pub(super) fn free(folder: Option<&str>, identifier: Option<&str>) -> Result<u64, &'static str> {
    let (Some(folder), Some(identifier)) = (folder, identifier) else {
        return Err("the role may not see data_directory");
    };
    let folder = Path::new(folder);
    if control_file(folder).map(|own| own.to_string()).as_deref() != Some(identifier) {
        return Err("it is seen on the server's machine alone, by its user");
    }
    let room = rustix::fs::statvfs(folder.join("pg_wal"));
    let room = room.map_err(|_| "pg_wal cannot be read")?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// The system identifier, the first field of `ControlFileData` (src/include/catalog/pg_control.h).
fn control_file(folder: &Path) -> Option<u64> {
    let mut identifier = [0; 8];
    let mut file = File::open(folder.join("global/pg_control")).ok()?;
    file.read_exact(&mut identifier).ok()?;
    Some(u64::from_ne_bytes(identifier))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_disk_of_another_server_is_none_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str();
        assert!(free(path, Some("7")).is_err(), "there is no server");
        std::fs::create_dir(folder.path().join("global")).unwrap();
        std::fs::create_dir(folder.path().join("pg_wal")).unwrap();
        let control = [7_u64.to_ne_bytes(), [0; 8]].concat();
        std::fs::write(folder.path().join("global/pg_control"), control).unwrap();
        assert!(free(path, Some("7")).unwrap() > 0);
        assert!(free(path, Some("8")).is_err());
        assert!(free(None, Some("7")).is_err());
    }
}
