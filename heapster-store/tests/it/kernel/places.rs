//! Places where no store can be, and what the error says of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use heapster_store::{Ack, Error, ReaderOptions, Store, StoreReader};

use super::child::{HOLD, batch, batch_time, plain_options};
use super::{Mount, child_of, files, skip, succeeds};
use crate::support::*;

/// The variant of the error of opening there.
fn refusal(path: &Path) -> (String, String) {
    let error = Store::open(path, plain_options()).unwrap_err();
    let debug = format!("{error:?}");
    let variant: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    (variant, format!("{error}: {source}"))
}

#[test]
fn a_place_where_no_store_can_be_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("nothing"), &link).unwrap();
    let round = dir.path().join("round");
    symlink(&round, &round).unwrap();
    let wal_is_file = dir.path().join("wal-is-a-file");
    fs::create_dir(&wal_is_file).unwrap();
    fs::write(wal_is_file.join("wal"), "text").unwrap();
    let lock_is_dir = dir.path().join("lock-is-a-directory");
    fs::create_dir_all(lock_is_dir.join("LOCK")).unwrap();
    let manifest_is_dir = dir.path().join("manifest-is-a-directory");
    fs::create_dir_all(manifest_is_dir.join("MANIFEST")).unwrap();
    let cases: [(&str, PathBuf, &str); 8] = [
        ("a file", file.clone(), "NotAStore"),
        ("below a file", file.join("store"), "NotAStore"),
        ("a link to nothing", link, "Io"),
        ("a link to itself", round, "Io"),
        ("a name that is too long", dir.path().join("x".repeat(300)), "Io"),
        ("wal is a file", wal_is_file, "Io"),
        ("LOCK is a directory", lock_is_dir, "Io"),
        ("MANIFEST is a directory", manifest_is_dir, "Io"),
    ];
    for (what, path, variant) in cases {
        let before = files(dir.path());
        let (found, text) = refusal(&path);
        assert_eq!(found, variant, "{what}: {text}");
        assert!(text.contains(path.to_str().unwrap()), "{what}: {text}");
        assert!(files(dir.path()) == before, "{what}: it changed something");
    }
}

#[test]
fn missing_parents_are_made_also_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
    let path = dir.path().join("link/a/b/c");
    Store::open(&path, plain_options()).unwrap().close().unwrap();
    assert!(dir.path().join("real/a/b/c/MANIFEST").is_file());
}

#[test]
fn read_only_media_are_read_by_a_reader_and_refused_to_a_writer() {
    let Some(disk) = Mount::tmpfs("size=4m") else { return };
    let dir = disk.path().join("store");
    let store = Store::open(&dir, plain_options()).unwrap();
    for number in 0..10 {
        let _ = store.append_rows(at(batch_time(number)), &batch(number), Ack::Durable).unwrap();
    }
    let expected = contents(&store.snapshot());
    drop(store);
    assert!(succeeds("mount", &["-o", "remount,ro", disk.path().to_str().unwrap()]));
    let (variant, text) = refusal(&dir);
    assert_eq!(variant, "Io", "{text}");
    assert!(text.contains(dir.to_str().unwrap()) && text.contains("Read-only"), "{text}");
    let (variant, text) = refusal(&disk.path().join("new"));
    assert_eq!(variant, "Io", "{text}");
    assert!(text.contains("Read-only"), "{text}");
    let reader = StoreReader::open(&dir, ReaderOptions::default()).unwrap();
    assert_eq!(contents(&reader.snapshot()), expected);
    let error = StoreReader::open(disk.path().join("new"), ReaderOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
}

#[test]
fn what_another_user_may_not_write_is_refused_by_its_name() {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if !succeeds(nobody[0], &[nobody[1], nobody[2], nobody[3], "true"]) {
        return skip("no other user can be taken on (no root?)").unwrap_or_default();
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The binary, where anybody may run it.
    let binary = dir.path().join("it");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let closed = dir.path().join("closed");
    Store::open(&closed, plain_options()).unwrap().close().unwrap();
    let shown = dir.path().join("shown");
    Store::open(&shown, plain_options()).unwrap().close().unwrap();
    for path in
        [shown.clone(), shown.join("wal"), shown.join("segments"), shown.join("segments/raw")]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for path in files(&shown).keys() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let cases = [
        ("a directory of its owner", closed),
        ("one to be read", shown),
        ("one to be made", dir.path().join("new")),
    ];
    for (what, path) in cases {
        let before = files(dir.path());
        let output = child_of(&binary, &nobody, HOLD, &path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{what}: {output:?}");
        assert!(text.contains("refused open Io:"), "{what}: {text}");
        assert!(text.contains(path.to_str().unwrap()), "{what}: {text}");
        assert!(files(dir.path()) == before, "{what}: it changed something");
    }
}
