//! The audit log, and what a check of it has found.

use std::fmt::Write as _;

use gantry_proto::{
    audit::{Entry, Fault, Head, Outcome, Record, Verified},
    v1::Role,
};
use serde_json::{Value, json};

use super::{jobs::short, table::table, text::clean, units, words};
use crate::{args::Lang, language::now};

/// One row a record, then the head.
pub(crate) fn text(records: &[Record], head: Head, columns: usize) -> String {
    let mut text = if records.is_empty() {
        say!("no records\n", "没有记录\n")
    } else {
        let heading = [
            word!("NUMBER", "编号"),
            word!("TIME", "时间"),
            word!("WHO", "操作人"),
            word!("FROM", "来源地址"),
            word!("ACT", "操作"),
            word!("JOB", "作业"),
            word!("OUTCOME", "结果"),
            word!("ABOUT", "说明"),
        ];
        table(&heading, records.iter().map(row), columns)
    };
    let _ = writeln!(text, "{}", say!("head: {head}", "链头：{head}"));
    text
}

/// The head in JSON.
pub(crate) fn head(head: Head) -> Value {
    json!({ "number": head.number, "hash": head.hash })
}

/// What a check has found, for people.
pub(crate) fn verdict(what: &str, verified: &Verified, checked_end: bool) -> String {
    let Verified { records, head, faults, more } = verified;
    let what = clean(what);
    let mut text = say!("{what}: {records} records, head {head}\n", "{what}：{records} 条记录，链头 {head}\n");
    for fault in faults {
        let fault = told(fault);
        text.push_str(&say!("  fault: {fault}\n", "  异常：{fault}\n"; fault = clean(&fault)));
    }
    if *more > 0 {
        text.push_str(&say!("  and {more} more faults\n", "  另有 {more} 处异常\n"));
    }
    if !faults.is_empty() {
        text.push_str(word!("the log is not as it was written\n", "日志已非原样\n"));
    } else if checked_end {
        text.push_str(word!("nothing was altered, removed or reordered\n", "未发现篡改、删除或乱序\n"));
    } else {
        text.push_str(word!(
            "nothing was altered, removed or reordered up to that head\n",
            "至该链头为止未发现篡改、删除或乱序\n"
        ));
        text.push_str(word!(
            "what was removed behind it cannot be seen in the file: give --head or --head-from-controller\n",
            "其后是否有删除无法仅凭文件判断：请给出 --head 或 --head-from-controller\n"
        ));
    }
    text
}

/// A fault for people.
fn told(fault: &Fault) -> String {
    if now() == Lang::En {
        return fault.to_string();
    }
    match fault {
        Fault::Unreadable { line, why } => format!("第 {line} 行不是审计记录（{why}）"),
        Fault::Rewritten { line, number } => format!("第 {line} 行（记录 {number}）与导出时不同：被重写或编辑过"),
        Fault::Altered { number } => format!("记录 {number} 被篡改：哈希与内容不符"),
        Fault::Displaced { expected, found } if found > expected => {
            format!("应为记录 {expected} 处是记录 {found}：缺少 {} 条记录，或顺序被改动", found - expected)
        }
        Fault::Displaced { expected, found } => {
            format!("应为记录 {expected} 处是记录 {found}：该记录重复，或顺序被改动")
        }
        Fault::Unchained { number } => format!("记录 {number} 与前一条记录不相连：二者之一被替换"),
        Fault::NoBeginning => "首条记录不是审计日志的开头：真正的开头被删除或替换".to_owned(),
        Fault::Empty => "其中没有记录".to_owned(),
        Fault::CutShort { last, known } => {
            format!("日志止于记录 {last}，而已知有记录 {known}：末尾缺少 {} 条记录", known - last)
        }
        Fault::OtherHead { number } => format!("记录 {number} 与已知的不同：日志被重写，或属于另一控制器"),
    }
}

/// The same in JSON.
pub(crate) fn verdict_document(verified: &Verified, checked_end: bool) -> Value {
    json!({
        "sound": verified.is_sound(),
        "records": verified.records,
        "head": head(verified.head),
        "checked_against_a_known_head": checked_end,
        "faults": verified.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "more_faults": verified.more,
    })
}

fn row(record: &Record) -> Vec<String> {
    let Record { number, at, entry, .. } = record;
    let outcome = match entry.outcome {
        Outcome::Asked => say!("asked", "已请求"),
        Outcome::Done => say!("done", "已执行"),
        Outcome::Refused => say!("refused: {code}", "已拒绝：{code}"; code = entry.code),
        Outcome::CutOff => say!("not known", "未知（中断）"),
    };
    let outcome = if entry.asked > 0 { format!("{outcome} ({})", entry.asked) } else { outcome };
    let who = match (entry.operator.as_str(), entry.role.as_str()) {
        ("", _) => "-".to_owned(),
        (name, "") => name.to_owned(),
        (name, role) => {
            let role = Role::of(role).map_or(role, |role| words::role(role));
            say!("{name} ({role})", "{name}（{role}）")
        }
    };
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        number.to_string(),
        units::time(*at),
        who,
        or_dash(&entry.remote),
        entry.act.clone(),
        or_dash(&short(&entry.job)),
        outcome,
        about(entry),
    ]
}

/// Everything else that a person wants to read in a row.
fn about(entry: &Entry) -> String {
    let place = match (entry.site.as_str(), entry.agent.as_str()) {
        ("", "") => String::new(),
        (site, "") => site.to_owned(),
        (site, agent) => format!("{site}/{agent}"),
    };
    let told = [&place, &entry.subject, &entry.message, &entry.detail].map(String::as_str);
    told.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}
