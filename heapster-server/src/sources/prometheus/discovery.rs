//! Files that say targets (`file_sd_configs`): which there are, and what they say now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::config::{FileDiscovery, TargetGroup, parse_groups, read_text};
use crate::telemetry::logging::chain;

/// Files of one pattern at most.
const FILES_MAX: usize = 1_000;

/// The label that says which file a target is from.
const FILE_PATH: &str = "__meta_filepath";

/// What files said last. One that cannot be read keeps what it said before.
#[derive(Debug, Default)]
pub(super) struct DiscoveredFiles {
    said: BTreeMap<PathBuf, Vec<TargetGroup>>,
    /// What was told of each file, so that it is told once.
    told: BTreeMap<PathBuf, String>,
}

impl DiscoveredFiles {
    /// Reads the files anew; blocks.
    pub(super) fn look(&mut self, files: &[FileDiscovery]) {
        let mut said = BTreeMap::new();
        let mut told = BTreeMap::new();
        for pattern in files.iter().flat_map(|files| &files.patterns) {
            for path in matching(pattern) {
                let read = read_text(&path).map_err(|error| chain(&error));
                match read.and_then(|text| parse_groups(&text)) {
                    Ok(mut groups) => {
                        for group in &mut groups {
                            group.labels.set(FILE_PATH, path.to_string_lossy());
                        }
                        said.insert(path, groups);
                    }
                    Err(why) => {
                        if self.told.get(&path) != Some(&why) {
                            let path = path.display();
                            warn!("the targets of {path} stay as they are: {why}");
                        }
                        if let Some(before) = self.said.remove(&path) {
                            said.insert(path.clone(), before);
                        }
                        told.insert(path, why);
                    }
                }
            }
        }
        (self.said, self.told) = (said, told);
    }

    /// The groups of all files.
    pub(super) fn groups(&self) -> impl Iterator<Item = &TargetGroup> {
        self.said.values().flatten()
    }
}

/// The files that a path means whose name may have one `*`.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let Some((before, behind)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let folder = match pattern.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= before.len() + behind.len()
                && name.starts_with(before)
                && name.ends_with(behind)
        })
        .map(|entry| entry.path())
        .take(FILES_MAX)
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_breaks_keeps_its_targets_and_one_that_goes_loses_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = [FileDiscovery {
            patterns: vec![path("t-*.json"), path("one.yml")],
            refresh: Duration::from_secs(1),
        }];
        let mut discovered = DiscoveredFiles::default();
        let mut look = || {
            discovered.look(&files);
            let targets = discovered.groups().flat_map(|group| group.targets.clone());
            let mut targets: Vec<String> = targets.collect();
            targets.sort();
            targets
        };
        fs::write(path("t-1.json"), r#"[{"targets": ["a:1"]}]"#).unwrap();
        fs::write(path("t-2.yaml"), "- targets: [no]").unwrap();
        fs::write(path("one.yml"), "- targets: [b:1, c:1]").unwrap();
        assert_eq!(look(), ["a:1", "b:1", "c:1"]);
        fs::write(path("one.yml"), "- targets: [").unwrap();
        fs::write(path("t-3.json"), r#"[{"targets": ["d:1"]}]"#).unwrap();
        fs::remove_file(path("t-1.json")).unwrap();
        assert_eq!(look(), ["b:1", "c:1", "d:1"]);
        let meta = discovered.groups().next().unwrap().labels.get(FILE_PATH).to_owned();
        assert!(meta.ends_with("one.yml"), "{meta}");
    }
}
