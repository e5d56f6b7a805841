//! The shape of the project, as ARCHITECTURE.md states it: which crate knows which, what is absent
//! where, and that every link in the documents leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn files_below(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !["target", ".git", "data", "testdata"].contains(&name.as_str()) {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

fn sources_of(krate: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files_below(&root().join(krate).join("src"), "rs", &mut found);
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// Names of the `heapster-*` crates in the `[dependencies]` of a manifest.
fn edges(krate: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    dependencies
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| name.starts_with("heapster-"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn arrows_between_crates_go_one_way() {
    assert!(edges("heapster-core").is_empty());
    assert_eq!(edges("heapster-store"), ["heapster-core"]);
    assert_eq!(edges("heapster-query"), ["heapster-core"]);
    assert_eq!(edges("heapster-server"), ["heapster-core", "heapster-query", "heapster-store"]);
    let all = ["heapster-core", "heapster-query", "heapster-server", "heapster-store"];
    assert_eq!(edges("heapster-py"), all);
}

#[test]
fn python_is_known_to_its_module_alone() {
    for krate in ["heapster-core", "heapster-store", "heapster-query", "heapster-server"] {
        for (path, text) in sources_of(krate) {
            for word in ["pyo3", "numpy::", "arrow_array"] {
                assert!(!text.contains(word), "{} knows {word}", path.display());
            }
        }
    }
}

#[test]
fn lower_crates_do_not_know_what_belongs_above_them() {
    let absent = [
        (
            "heapster-core",
            &["std::fs", "std::net", "tokio", "SystemTime", "Instant::now", "kube::"][..],
        ),
        (
            "heapster-query",
            &["std::fs", "std::net", "tokio", "SystemTime", "heapster_store", "kube::"],
        ),
        ("heapster-store", &["std::net", "tokio", "kube::", "hyper", "tracing::"]),
    ];
    for (krate, words) in absent {
        for (path, text) in sources_of(krate) {
            for word in words {
                let allowed = *word == "SystemTime" && path.ends_with("clock.rs");
                assert!(allowed || !text.contains(word), "{} knows {word}", path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_maps_a_file_and_takes_an_arrow_stream_and_does_nothing_else() {
    let word = concat!("un", "safe");
    let mut sources = Vec::new();
    files_below(&root(), "rs", &mut sources);
    assert!(sources.len() > 200);
    let mut found = Vec::new();
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().filter_map(|line| line.split("//").next());
        let uses = code
            .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
            .filter(|token| *token == word)
            .count();
        found.extend(std::iter::repeat_n(path, uses));
    }
    found.sort();
    let places = ["heapster-py/src/arrow_stream.rs", "heapster-store/src/vfs/real.rs"];
    assert_eq!(found, places.map(|place| root().join(place)));
}

#[test]
fn the_compiler_refuses_unsafe_code_but_where_it_is_expected() {
    for krate in ["heapster-core", "heapster-query", "heapster-server", "benches"] {
        let text = fs::read_to_string(root().join(krate).join("src/lib.rs")).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{krate}");
    }
    for krate in ["heapster-store", "heapster-py"] {
        let text = fs::read_to_string(root().join(krate).join("src/lib.rs")).unwrap();
        assert!(text.contains("#![deny(unsafe_code)]"), "{krate}");
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut documents = Vec::new();
    files_below(&root(), "md", &mut documents);
    assert!(documents.len() > 5);
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}", document.display());
        }
    }
}
