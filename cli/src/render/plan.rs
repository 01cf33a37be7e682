//! A plan, value by value, with where each comes from.

use std::collections::BTreeMap;

use gantry_plan::{Access, Field, Need};
use gantry_proto::plan::Source;
use gantry_report::rows::{Row, rows};
use serde_json::Value;

use super::{expected::expected, table::table};

/// Every value under its key. `document` is the plan as `ctl plan check -o json` gives it: secrets are covered.
pub(crate) fn values(document: &Value, sources: &BTreeMap<String, Source>, columns: usize) -> String {
    let rows = rows(document, sources).into_iter().map(|Row { key, value, from }| vec![key, value, words(&from)]);
    table(&[word!("KEY", "键"), word!("VALUE", "值"), word!("FROM", "来源")], rows, columns)
}

/// The cells that are read, and what `--set` takes.
pub(crate) fn fields(fields: &[Field], columns: usize) -> String {
    let rows = fields.iter().map(|field| {
        let set = match field.access {
            Access::Settable => word!("yes", "可以"),
            Access::Fixed => word!("no", "不可"),
            Access::Secret => word!("no, secret", "不可，机密"),
        };
        let blank = match field.need {
            Need::Required => say!("error", "报错"),
            Need::Default(value) => say!("default {value}", "默认 {value}"),
            Need::Optional => say!("left out", "省略"),
        };
        vec![
            field.key.to_owned(),
            cell(field),
            field.label.to_owned(),
            expected(field.expects).to_owned(),
            blank,
            set.to_owned(),
        ]
    });
    let heading = [
        word!("KEY", "键"),
        word!("CELL", "单元格"),
        word!("LABEL", "标签"),
        word!("VALUE", "值"),
        word!("IF BLANK", "留空时"),
        "--set",
    ];
    table(&heading, rows, columns)
}

/// Where a field stands, such as `集群管理信息!E3`; `-` when no cell holds it.
fn cell(field: &Field) -> String {
    match field.cells {
        [] => "-".to_owned(),
        cells => format!("{}!{}", field.sheet, cells.join(",")),
    }
}

fn words(from: &[Source]) -> String {
    from.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn word(source: &Source) -> String {
    match source {
        Source::Override => "--set".to_owned(),
        Source::Workbook { cell } => cell.clone(),
        Source::Derived { of } => say!("from {of}", "推导自 {of}"),
        Source::Configuration => say!("configuration", "控制器设置"),
        Source::Default => say!("default", "内置默认值"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_its_key_and_source() {
        let document = json!({
            "cloudtower": {"ip": "192.0.2.20"}, "ntp_servers": ["a", "b"], "hosts": [{"row": 3}], "sources": {"x": 1},
        });
        let mut sources = BTreeMap::new();
        sources.insert("cloudtower.ip".to_owned(), Source::Workbook { cell: "集群管理信息!E3".to_owned() });
        sources.insert("hosts".to_owned(), Source::Default);
        let cell = |cell: &str| Source::Workbook { cell: format!("集群管理信息!{cell}") };
        sources.extend([("ntp_servers[0]".to_owned(), cell("E22")), ("ntp_servers[1]".to_owned(), cell("E24"))]);
        let text = values(&document, &sources, 100);
        let lines: Vec<_> = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0], ["cloudtower.ip", "192.0.2.20", "集群管理信息!E3"]);
        assert_eq!(lines[1], ["ntp_servers", "a,", "b", "集群管理信息!E22,", "集群管理信息!E24"]);
        assert_eq!(lines[2], ["hosts[0].row", "3", "default"]);
        assert_eq!(lines.len(), 3);
    }
}
