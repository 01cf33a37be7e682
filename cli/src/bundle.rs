//! The archive of everything about one job, for whoever has to find out what went wrong: parts, a manifest that names
//! them and what is missing, and a ZIP file around. Knows nothing of where the parts come from.
//!
//! Each text goes through the redactor once more on its way in, whatever was done to it before.

use std::{
    collections::VecDeque,
    io::{Cursor, Write as _},
};

use gantry_proto::{REDACTED, Redactor};
use serde::Serialize;
use serde_json::{Map, Value, json};
use zip::{CompressionMethod, ZipWriter, result::ZipError, write::SimpleFileOptions};

/// Form of the manifest.
const FORM: &str = "gantry.bundle/1";
/// The file that names the others; the first one in the archive.
const MANIFEST: &str = "manifest.json";
/// Bytes of one part, unpacked. Of a part in lines the oldest are left out, and counted; another one is left out whole.
const PART_MAX: usize = 48 << 20;
/// Bytes of all parts together, unpacked: they are in memory.
const ALL_MAX: usize = 128 << 20;
/// What begins a private key, whatever its kind.
const KEY_MARK: &str = "PRIVATE KEY-----";

/// The parts so far.
pub(crate) struct Bundle<'a> {
    redactor: &'a Redactor,
    part_max: usize,
    /// Bytes that all further parts may have.
    room: usize,
    files: Vec<(&'static str, String)>,
    rows: Vec<Row>,
}

/// A part in the manifest.
#[derive(Debug, Serialize)]
struct Row {
    file: &'static str,
    /// What it is.
    what: &'static str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<usize>,
    /// Lines that were left out, the oldest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<usize>,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

impl<'a> Bundle<'a> {
    pub(crate) fn new(redactor: &'a Redactor) -> Self {
        Self { redactor, part_max: PART_MAX, room: ALL_MAX, files: Vec::new(), rows: Vec::new() }
    }

    /// A part as one JSON document.
    pub(crate) fn document(&mut self, file: &'static str, what: &'static str, mut value: Value) {
        self.redactor.json(&mut value);
        // Strings as keys, and numbers that JSON has: there is nothing that could fail.
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        self.put(file, what, text + "\n");
    }

    /// A part as one JSON object a line, the oldest first.
    pub(crate) fn lines(&mut self, file: &'static str, what: &'static str, values: impl Iterator<Item = Value>) {
        let max = self.part_max.min(self.room);
        let (mut lines, mut bytes, mut left_out) = (VecDeque::new(), 0, 0);
        for mut value in values {
            self.redactor.json(&mut value);
            let line = self.clean(format!("{value}\n"));
            bytes += line.len();
            lines.push_back(line);
            while bytes > max {
                let Some(oldest) = lines.pop_front() else { break };
                bytes -= oldest.len();
                left_out += 1;
            }
        }
        let row = Row {
            file,
            what,
            bytes,
            lines: Some(lines.len()),
            left_out: (left_out > 0).then_some(left_out),
            missing: None,
        };
        self.keep(row, lines.into_iter().collect());
    }

    /// A part as text.
    pub(crate) fn text(&mut self, file: &'static str, what: &'static str, text: String) {
        let text = self.redactor.text(&text).into_owned();
        self.put(file, what, text);
    }

    /// A part that cannot be had.
    pub(crate) fn missing(&mut self, file: &'static str, what: &'static str, why: impl Into<String>) {
        let why = self.redactor.text(&why.into()).into_owned();
        self.rows.push(Row { file, what, bytes: 0, lines: None, left_out: None, missing: Some(why) });
    }

    /// The parts that are not there, and the ones that are not whole, a sentence each.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let gap = |row: &Row| match (&row.missing, row.left_out) {
            (Some(why), _) => {
                Some(say!("{file} is not in the archive: {why}", "归档中没有 {file}：{why}"; file = row.file))
            }
            (None, Some(lines)) => Some(say!(
                "{file} has not the {lines} oldest lines: it would be too large",
                "{file} 省略了最早的 {lines} 行：否则过大"; file = row.file
            )),
            (None, None) => None,
        };
        self.rows.iter().filter_map(gap).collect()
    }

    /// The manifest with these fields, and the archive.
    pub(crate) fn pack(self, fields: Map<String, Value>) -> Result<(Value, Vec<u8>), ZipError> {
        let mut manifest = json!({ "form": FORM });
        if let Value::Object(map) = &mut manifest {
            map.extend(fields);
            map.insert("parts".to_owned(), json!(self.rows));
        }
        self.redactor.json(&mut manifest);
        let text = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o600);
        for (file, text) in std::iter::once((MANIFEST, text)).chain(self.files) {
            zip.start_file(file, options)?;
            zip.write_all(text.as_bytes())?;
        }
        Ok((manifest, zip.finish()?.into_inner()))
    }

    fn put(&mut self, file: &'static str, what: &'static str, text: String) {
        let text = self.clean(text);
        if text.len() > self.part_max.min(self.room) {
            return self.missing(file, what, format!("it is too large, {} MiB", text.len() >> 20));
        }
        let row = Row { file, what, bytes: text.len(), lines: None, left_out: None, missing: None };
        self.keep(row, text);
    }

    fn keep(&mut self, row: Row, text: String) {
        self.room = self.room.saturating_sub(text.len());
        self.files.push((row.file, text));
        self.rows.push(row);
    }

    /// No part has a private key, whoever has put one there: such a line is none of ours.
    fn clean(&self, text: String) -> String {
        if !text.contains(KEY_MARK) {
            return text;
        }
        text.lines().map(|line| if line.contains(KEY_MARK) { REDACTED } else { line }).fold(
            String::with_capacity(text.len()),
            |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use gantry_proto::Secret;
    use zip::ZipArchive;

    use super::*;

    fn unpacked(bytes: Vec<u8>) -> Vec<(String, String)> {
        let mut zip = ZipArchive::new(Cursor::new(bytes)).unwrap();
        (0..zip.len())
            .map(|index| {
                let mut file = zip.by_index(index).unwrap();
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                (file.name().unwrap().into_owned(), text)
            })
            .collect()
    }

    #[test]
    fn parts_are_cleaned_and_named() {
        let redactor = Redactor::new();
        redactor.register(&Secret::new("hunter2hunter2"));
        let mut bundle = Bundle::new(&redactor);
        bundle.document("a.json", "A", json!({"password": "x", "said": "it is hunter2hunter2"}));
        bundle.lines("b.jsonl", "B", [json!({"n": 1}), json!({"token": "y", "n": 2})].into_iter());
        bundle.text("c.html", "C", "<p>hunter2hunter2</p>".to_owned());
        bundle.text("d.txt", "D", "one\n-----BEGIN PRIVATE KEY-----\ntwo".to_owned());
        bundle.missing("e.json", "E", "the role hunter2hunter2 may not");
        assert_eq!(bundle.gaps(), ["e.json is not in the archive: the role 机密凭据 may not"]);
        let fields = json!({"job_id": "j", "note": "hunter2hunter2"}).as_object().cloned().unwrap();
        let (manifest, bytes) = bundle.pack(fields).unwrap();
        assert_eq!((&manifest["form"], &manifest["note"]), (&json!(FORM), &json!("机密凭据")));
        assert_eq!(manifest["parts"][1]["lines"], 2);
        let files = unpacked(bytes);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [MANIFEST, "a.json", "b.jsonl", "c.html", "d.txt"]);
        let all: String = files.into_iter().map(|(_, text)| text).collect();
        for secret in ["hunter2", "\"x\"", "\"y\"", "PRIVATE"] {
            assert!(!all.contains(secret), "{secret} in {all}");
        }
    }

    #[test]
    fn what_is_too_large_is_left_out_and_told() {
        let redactor = Redactor::new();
        let mut bundle = Bundle { part_max: 24, room: 40, ..Bundle::new(&redactor) };
        bundle.lines("a.jsonl", "A", (1..=5).map(|n| json!({ "n": n })));
        bundle.text("b.txt", "B", "x".repeat(25));
        bundle.text("c.txt", "C", "x".repeat(20));
        assert_eq!(bundle.gaps().len(), 3, "{:?}", bundle.gaps());
        let (manifest, bytes) = bundle.pack(Map::new()).unwrap();
        assert_eq!((&manifest["parts"][0]["lines"], &manifest["parts"][0]["left_out"]), (&json!(3), &json!(2)));
        assert_eq!(unpacked(bytes)[1].1, "{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n");
    }
}
