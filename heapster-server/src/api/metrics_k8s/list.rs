//! Lists and tables of many objects, written while they are sent.

use std::vec::IntoIter;

use bytes::Bytes;

use super::media::{Media, TableVersion};
use super::objects::{Kind, Made, Row, Version};
use super::protobuf::{Message, envelope, envelope_end};
use super::yaml;
use crate::http::Chunks;
use crate::http::gojson::{JsonWriter, Style};

/// Pieces are about that large.
const PIECE_BYTES: usize = 64 << 10;

/// What is kept of a row until it is written; its numbers are the board's.
const ROW_BYTES: usize = size_of::<Row>() + 16;

/// A list, up to its end.
pub struct List {
    rows: IntoIter<Row>,
    kind: Kind,
    made: Made,
    form: Form,
    held_bytes: usize,
    /// Written, but not taken yet.
    out: Vec<u8>,
    has_ended: bool,
}

/// How a list is written.
enum Form {
    Json(JsonWriter),
    Table(JsonWriter, Vec<&'static str>, TableObject),
    Protobuf(Message),
}

/// What the rows of a table bring of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableObject {
    /// Nothing.
    None,
    /// Their metadata.
    Metadata,
    /// All of it.
    Whole(Version),
}

impl List {
    /// A list as a document of its kind.
    pub fn new(
        rows: Vec<Row>,
        kind: Kind,
        version: Version,
        media: Media,
        style: Style,
        made: Made,
    ) -> Self {
        if media == Media::Protobuf {
            return Self::protobuf(rows, kind, version, made);
        }
        let mut json = JsonWriter::new(style);
        json.begin_object();
        json.key("kind");
        json.string(kind.list());
        json.key("apiVersion");
        json.string(&version.api_version());
        json.key("metadata");
        json.begin_object();
        json.end_object();
        json.key("items");
        json.begin_array();
        Self::begun(rows, kind, made, Form::Json(json), Vec::new())
    }

    fn protobuf(rows: Vec<Row>, kind: Kind, version: Version, made: Made) -> Self {
        let meta = Message::of(|list| list.list_meta(1));
        // The length stands before the list, so every object is made twice.
        let mut item = Message::default();
        let items = rows.iter().map(|row| {
            item.clear();
            item.nested(2, |object| row.write_message(object, kind, &made));
            item.len()
        });
        let bytes = meta.len() + items.sum::<usize>();
        let mut out = envelope(&version.api_version(), kind.list(), bytes);
        out.extend_from_slice(meta.as_bytes());
        item.clear();
        Self::begun(rows, kind, made, Form::Protobuf(item), out)
    }

    /// A list, or a single object, as a table.
    pub fn table(
        rows: Vec<Row>,
        kind: Kind,
        version: TableVersion,
        object: TableObject,
        style: Style,
        made: Made,
    ) -> Self {
        let resources = rows.first().map(Row::resources).unwrap_or_default();
        let mut json = JsonWriter::new(style);
        json.begin_object();
        json.key("kind");
        json.string("Table");
        json.key("apiVersion");
        json.string(match version {
            TableVersion::V1 => "meta.k8s.io/v1",
            TableVersion::V1beta1 => "meta.k8s.io/v1beta1",
        });
        json.key("metadata");
        json.begin_object();
        json.end_object();
        json.key("columnDefinitions");
        if rows.is_empty() {
            json.null();
        } else {
            json.begin_array();
            write_column(&mut json, "Name", "name", "Name of the resource");
            resources.iter().for_each(|name| write_column(&mut json, name, "quantity", ""));
            write_column(&mut json, "Window", "duration", "");
            json.end_array();
        }
        json.key("rows");
        if rows.is_empty() {
            json.null();
        } else {
            json.begin_array();
        }
        Self::begun(rows, kind, made, Form::Table(json, resources, object), Vec::new())
    }

    fn begun(rows: Vec<Row>, kind: Kind, made: Made, form: Form, out: Vec<u8>) -> Self {
        let held_bytes = rows.len() * ROW_BYTES;
        Self { rows: rows.into_iter(), kind, made, form, held_bytes, out, has_ended: false }
    }

    /// The whole document at once.
    pub fn into_bytes(mut self, media: Media) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next() {
            whole.extend_from_slice(&piece);
        }
        if media == Media::Yaml { yaml::from_json(&whole) } else { whole }
    }

    fn write(&mut self, row: &Row) {
        match &mut self.form {
            Form::Json(json) => row.write_json(json, self.kind, None, &self.made),
            Form::Table(json, resources, object) => {
                json.begin_object();
                json.key("cells");
                row.write_cells(json, resources);
                write_object(json, row, *object, self.kind, &self.made);
                json.end_object();
            }
            Form::Protobuf(item) => {
                item.clear();
                item.nested(2, |object| row.write_message(object, self.kind, &self.made));
                self.out.extend_from_slice(item.as_bytes());
            }
        }
    }

    fn end(&mut self) {
        self.has_ended = true;
        let (json, has_array) = match &mut self.form {
            Form::Json(json) => (json, true),
            // A table without rows has no array of them.
            Form::Table(json, ..) => (json, self.held_bytes > 0),
            Form::Protobuf(_) => return self.out.extend(envelope_end()),
        };
        if has_array {
            json.end_array();
        }
        json.end_object();
        let json = std::mem::replace(json, JsonWriter::new(Style::Plain));
        self.out.extend(json.finish());
    }
}

fn write_column(json: &mut JsonWriter, name: &str, format: &str, description: &str) {
    json.begin_object();
    for (key, value) in
        [("name", name), ("type", "string"), ("format", format), ("description", description)]
    {
        json.key(key);
        json.string(value);
    }
    json.key("priority");
    json.uint(0);
    json.end_object();
}

fn write_object(json: &mut JsonWriter, row: &Row, object: TableObject, kind: Kind, made: &Made) {
    match object {
        TableObject::None => {}
        TableObject::Metadata => {
            json.key("object");
            json.begin_object();
            json.key("kind");
            json.string("PartialObjectMetadata");
            json.key("apiVersion");
            json.string("meta.k8s.io/v1");
            json.key("metadata");
            row.write_metadata(json, made);
            json.end_object();
        }
        TableObject::Whole(version) => {
            json.key("object");
            row.write_json(json, kind, Some(version), made);
        }
    }
}

impl Chunks for List {
    fn next(&mut self) -> Option<Bytes> {
        while !self.has_ended && self.out.len() < PIECE_BYTES {
            match self.rows.next() {
                Some(row) => self.write(&row),
                None => self.end(),
            }
            if let Form::Json(json) | Form::Table(json, ..) = &mut self.form
                && json.len() >= PIECE_BYTES
            {
                self.out = json.take();
            }
        }
        Some(std::mem::take(&mut self.out)).filter(|piece| !piece.is_empty()).map(Bytes::from)
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}
