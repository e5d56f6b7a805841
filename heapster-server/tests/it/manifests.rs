//! What `deploy/` holds is what Kubernetes takes: each document is read into the type of its kind and
//! written again, which loses whatever that type does not have.
//!
//! The chart keeps to the few words of Helm's templates that are understood here, and any other is an
//! error: no Helm is needed to see what it makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heapster_server::cli;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The documents of a file.
fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = text.split("\n---\n");
    documents.map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// All documents of the folder for Kubernetes, by kind and name.
fn manifests() -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder().join("kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name != "kustomization.yaml") {
            for document in documents(&path) {
                let name =
                    format!("{}/{}", text(&document["kind"]), text(&document["metadata"]["name"]));
                assert!(all.insert(name.clone(), document).is_none(), "{name} is there twice");
            }
        }
    }
    all
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn check<T: DeserializeOwned + Serialize>(name: &str, document: &Value) {
    let typed: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(&serde_json::to_value(typed).unwrap(), document, "{name}");
}

#[test]
fn every_manifest_has_the_fields_of_its_kind_and_no_others() {
    let manifests = manifests();
    assert_eq!(manifests.len(), 11);
    check_all(&manifests);
}

fn check_all(manifests: &BTreeMap<String, Value>) {
    for (name, document) in manifests {
        let check = match text(&document["kind"]) {
            "StatefulSet" => check::<StatefulSet>,
            "Service" => check::<Service>,
            "ServiceAccount" => check::<ServiceAccount>,
            "NetworkPolicy" => check::<NetworkPolicy>,
            "ClusterRole" => check::<ClusterRole>,
            "ClusterRoleBinding" => check::<ClusterRoleBinding>,
            "RoleBinding" => check::<RoleBinding>,
            "APIService" => check::<APIService>,
            kind => panic!("nobody checks {kind}"),
        };
        check(name, document);
    }
}

#[test]
fn manifests_fit_each_other_and_the_program() {
    let manifests = manifests();
    let pod = &manifests["StatefulSet/heapster"]["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&manifests["Service/heapster"]["spec"]["selector"], labels);
    let container = &pod["spec"]["containers"][0];
    let port = &container["ports"][0];
    for probe in ["readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], port["name"]);
    }
    assert_eq!(manifests["Service/heapster"]["spec"]["ports"][0]["targetPort"], port["name"]);
    for version in ["v1", "v1beta1"] {
        let service =
            &manifests[&format!("APIService/{version}.metrics.k8s.io")]["spec"]["service"];
        assert_eq!(service["name"], manifests["Service/heapster"]["metadata"]["name"]);
        assert_eq!(service["port"], manifests["Service/heapster"]["spec"]["ports"][0]["port"]);
    }
    assert!(
        !manifests.values().any(|document| document["rules"].to_string().contains("nodes/proxy"))
    );

    // The program understands what it is told, and says nothing of it.
    let arguments = container["args"].as_array().unwrap().iter().map(|own| text(own).to_owned());
    let environment = |name: &str| (name == "POD_NAMESPACE").then(|| "kube-system".to_owned());
    let Ok(cli::Command::Serve(config, notes)) = cli::command(arguments, &environment) else {
        panic!("it does not serve")
    };
    assert!(notes.is_empty(), "{notes:?}");
    let secure = config.secure_port.unwrap();
    assert_eq!(u64::from(secure.listen.port()), port["containerPort"].as_u64().unwrap());

    let kustomization = &documents(&folder().join("kubernetes/kustomization.yaml"))[0];
    for file in kustomization["resources"].as_array().unwrap() {
        assert!(folder().join("kubernetes").join(text(file)).is_file(), "{file}");
    }
}

/// The value that a template names: `.Values.a.b`, `.Release.Name`, or `.` within a range.
fn value_of<'a>(path: &str, root: &'a Value, here: &'a Value) -> &'a Value {
    match path.strip_prefix('.').unwrap_or_else(|| panic!("{path} is not understood")) {
        "" => here,
        path => path.split('.').fold(root, |value, name| &value[name]),
    }
}

fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
        && value != ""
        && value != &Value::Array(vec![])
}

/// What stands for `{{ … }}`.
fn expanded(expression: &str, root: &Value, here: &Value) -> String {
    let mut words = expression.split(" | ").map(str::trim);
    let mut value = value_of(words.next().unwrap(), root, here).clone();
    let mut is_json = false;
    for word in words {
        match word.split_once(' ') {
            None if word == "toJson" => is_json = true,
            Some(("default", path)) if !is_true(&value) => {
                value = value_of(path, root, here).clone();
            }
            Some(("default", _)) => {}
            _ => panic!("{word} is not understood"),
        }
    }
    assert!(!value.is_null(), "{expression} is nothing");
    match value {
        Value::String(text) if !is_json => text,
        value => value.to_string(),
    }
}

/// Renders lines up to the `end` that belongs to them; gives the lines behind it.
fn render<'a>(
    mut lines: &'a [&'a str],
    root: &Value,
    here: &Value,
    out: &mut Option<&mut String>,
) -> &'a [&'a str] {
    while let Some((line, rest)) = lines.split_first() {
        lines = rest;
        let Some(control) =
            line.trim().strip_prefix("{{- ").and_then(|own| own.strip_suffix(" }}"))
        else {
            let Some(out) = out else { continue };
            let mut parts = line.split("{{ ");
            out.push_str(parts.next().unwrap());
            for part in parts {
                let (expression, text) = part.split_once(" }}").unwrap();
                out.push_str(&expanded(expression, root, here));
                out.push_str(text);
            }
            out.push('\n');
            continue;
        };
        let (word, path) = control.split_once(' ').unwrap_or((control, ""));
        match word {
            "end" => return lines,
            "if" => {
                let (path, is_wanted) = match path.strip_prefix("not ") {
                    Some(path) => (path, false),
                    None => (path, true),
                };
                let holds = is_true(value_of(path, root, here)) == is_wanted;
                let mut inner = out.as_deref_mut().filter(|_| holds);
                lines = render(lines, root, here, &mut inner);
            }
            "range" => {
                let elements = value_of(path, root, here).as_array().unwrap().clone();
                for element in &elements {
                    render(lines, root, element, out);
                }
                lines = render(lines, root, here, &mut None);
            }
            _ => panic!("{control} is not understood"),
        }
    }
    lines
}

/// What the chart makes of its values, some of them changed.
fn chart(change: impl FnOnce(&mut Value)) -> BTreeMap<String, Value> {
    let folder = folder().join("helm/heapster");
    let read = |name: &str| documents(&folder.join(name)).remove(0);
    let mut values = read("values.yaml");
    change(&mut values);
    let chart = read("Chart.yaml");
    let root = serde_json::json!({
        "Values": values,
        "Release": { "Name": "hs", "Namespace": "monitoring" },
        "Chart": { "AppVersion": chart["appVersion"] },
    });
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("templates")).unwrap() {
        let template = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let (lines, mut out): (Vec<&str>, _) = (template.lines().collect(), String::new());
        assert!(render(&lines, &root, &root, &mut Some(&mut out)).is_empty());
        for made in out.split("\n---\n").filter(|made| !made.trim().is_empty()) {
            let document: Value = serde_saphyr::from_str(made).unwrap();
            let name =
                format!("{}/{}", text(&document["kind"]), text(&document["metadata"]["name"]));
            all.insert(name, document);
        }
    }
    all
}

#[test]
fn the_chart_makes_manifests_with_and_without_what_can_be_left_out() {
    let usual = chart(|_| ());
    assert_eq!(usual.len(), 7);
    let pod = &usual["StatefulSet/hs"]["spec"]["template"]["spec"];
    assert!(pod["volumes"].is_null());
    assert_eq!(pod["containers"][0]["image"], "heapster:0.1.0");
    check_all(&usual);

    let everything = chart(|values| {
        values["apiService"]["enabled"] = true.into();
        values["networkPolicy"]["enabled"] = true.into();
        values["storage"]["enabled"] = false.into();
        values["storage"]["className"] = "fast".into();
        values["image"]["tag"] = "edge".into();
        values["extraArgs"] = serde_json::json!(["--log-level=debug", "--query-timeout=1m"]);
    });
    assert_eq!(everything.len(), 11);
    let set = &everything["StatefulSet/hs"]["spec"];
    assert!(set["volumeClaimTemplates"].is_null());
    let container = &set["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "heapster:edge");
    check_all(&everything);
    let words = container["command"].as_array().unwrap()[1..].iter();
    let words = words.chain(container["args"].as_array().unwrap()).map(|own| text(own).to_owned());
    let Ok(cli::Command::Serve(config, notes)) = cli::command(words, &|_| None) else {
        panic!("it does not serve")
    };
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(config.secure_port.unwrap().listen.port(), 10250);
}
