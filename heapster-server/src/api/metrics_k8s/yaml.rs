//! YAML as Kubernetes writes it: what the JSON says, with sorted keys.

use std::fmt::Write;

use serde_json::Value;

/// The YAML of a JSON text. What is none becomes nothing; our own JSON is always some.
pub fn from_json(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    let mut out = String::new();
    write(&mut out, &value, 0);
    out.into_bytes()
}

/// Writes a value that begins a line, indented by so many spaces.
fn write(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (index, (key, value)) in members.iter().enumerate() {
                // The first key of an element stands behind its dash.
                let is_at_dash = index == 0 && out.ends_with("- ");
                let spaces = if is_at_dash { 0 } else { indent };
                let _ = write!(out, "{:spaces$}{}:", "", scalar(key));
                write_member(out, value, indent);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for element in elements {
                let _ = write!(out, "{:indent$}- ", "");
                match element {
                    Value::Object(members) if !members.is_empty() => {
                        write(out, element, indent + 2);
                    }
                    other => {
                        let _ = writeln!(out, "{}", inline(other));
                    }
                }
            }
        }
        other => {
            let _ = writeln!(out, "{}", inline(other));
        }
    }
}

/// Writes the value of a key. Elements of a list stand under their key.
fn write_member(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            write(out, value, indent + 2);
        }
        Value::Array(elements) if !elements.is_empty() => {
            out.push('\n');
            write(out, value, indent);
        }
        other => {
            let _ = writeln!(out, " {}", inline(other));
        }
    }
}

/// A value without members. Lists in lists do not occur; JSON is YAML.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A text, in quotes when it would read as something else.
fn scalar(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./ ()'".contains(char);
    let begins_well = text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '/');
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null"
    );
    match begins_well && text.chars().all(is_plain) && !is_word && !text.ends_with(' ') {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_says_what_the_json_says() {
        let json =
            r#"{"kind":"L","b":[{"x":"5","y":{}},{"z":[1,2]}],"a":{"t":"12:30","e":[]},"n":"no"}"#;
        let yaml = String::from_utf8(from_json(json.as_bytes())).unwrap();
        let expected = "a:\n  e: []\n  t: \"12:30\"\nb:\n- x: \"5\"\n  \"y\": {}\n- z:\n  - 1\n  - 2\n\
                        kind: L\n\"n\": \"no\"\n";
        assert_eq!(yaml, expected);
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(json).unwrap());
    }
}
