//! `--to-rdb` and `--to-aof`: files that other servers load.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use tessera_engine::persist::{
    export::{ExportOptions, Exported, export_rdb, export_requests, libraries_after},
    recovery::Loaded,
};

use super::{Failure, arguments::Job, say};
use crate::{aof::sync_directory, metrics::unix_time};

/// Writes the files that are asked for.
pub(super) fn run(job: &Job, loaded: &mut Loaded, out: &mut dyn Write) -> Result<(), Failure> {
    let now_ms = i64::try_from(unix_time().as_millis()).unwrap_or(i64::MAX);
    let options = ExportOptions { target: job.export_for, now_ms };
    let libraries = &libraries_after(&loaded.functions);
    let shards = &mut loaded.shards;
    if let Some(path) = &job.to_rdb {
        let export = |file: &mut dyn Write| export_rdb(shards, libraries, options, file);
        tell(path, write_whole(path, export)?, out)?;
    }
    if let Some(path) = &job.to_aof {
        let export = |file: &mut dyn Write| export_requests(shards, libraries, options, file);
        tell(path, write_whole(path, export)?, out)?;
    }
    Ok(())
}

/// Writes a file that has its name only when it is whole and durable.
fn write_whole(
    path: &Path,
    export: impl FnOnce(&mut dyn Write) -> io::Result<Exported>,
) -> Result<Exported, Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let write = || {
        let mut file = File::create(&beside)?;
        let exported = export(&mut file)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
        Ok(exported)
    };
    write().map_err(|error: io::Error| {
        // It may not have been made at all.
        let _ = fs::remove_file(&beside);
        Failure(format!("cannot write {}: {error}", path.display()))
    })
}

fn tell(path: &Path, exported: Exported, out: &mut dyn Write) -> Result<(), Failure> {
    let Exported { keys, bytes, hashes_without_deadlines, pending_left_out } = exported;
    say(out, &format!("Wrote {}: {keys} keys, {bytes} bytes", path.display()))?;
    if hashes_without_deadlines > 0 {
        say(
            out,
            &format!(
                "WARNING: {hashes_without_deadlines} hashes have lost the deadlines of their fields, \
                 which servers before Redis 7.4 do not know: fields that had expired are left out, the \
                 others stay. '--rdb-version 12' keeps them."
            ),
        )?;
    }
    if pending_left_out > 0 {
        say(
            out,
            &format!(
                "WARNING: {pending_left_out} entries of streams that are pending and deleted are left \
                 out: no request makes them. '--to-rdb' keeps them."
            ),
        )?;
    }
    Ok(())
}
