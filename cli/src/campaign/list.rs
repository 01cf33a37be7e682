//! Which sites a campaign has: a directory of workbooks, or a file that lists them. Everything that is wrong is told at
//! once.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use gantry_proto::id::check_name;

use super::SITES_MAX;
use crate::{exit::Failure, language::Said, profile::io_words, render::words};

/// The largest list that is read, bytes.
const LIST_MAX_BYTES: u64 = 1 << 20;
/// Longest line that is understood, bytes.
const LINE_MAX_BYTES: usize = 8 << 10;
/// Of how many faults are told.
const FAULTS_TOLD: usize = 20;

/// A site and what is to be deployed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The site.
    pub(crate) site: String,
    /// Its workbook.
    pub(crate) workbook: PathBuf,
    /// The agent, where the site has several.
    pub(crate) agent: Option<String>,
}

/// The sites, in their order.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(said!(
            "cannot read the sites of the campaign, {path}",
            "无法读取批量部署的站点 {path}"; path = path.display()
        ))
        .because(io_words(&error))
        .remedy(said!(
            "give a directory with a workbook SITE.xlsx for each site, or a file with lines SITE,WORKBOOK",
            "请给出每个站点有一份规划表 SITE.xlsx 的目录，或每行为 SITE,WORKBOOK 的文件"
        ))
    };
    let (what, read) = match fs::metadata(path).map_err(unreadable)?.is_dir() {
        true => (said!("the directory", "目录"), directory(path).map_err(unreadable)?),
        false => {
            (said!("the list", "列表"), parse(&text(path).map_err(unreadable)?, path.parent().unwrap_or(Path::new(""))))
        }
    };
    let (entries, mut faults) = read;
    faults.extend(doubles(&entries));
    match entries.len() {
        0 if faults.is_empty() => faults.push(said!("it names no site", "其中没有站点")),
        1..=SITES_MAX | 0 => {}
        many => faults.push(said!(
            "it names {many} sites, at most {SITES_MAX} are taken: make several campaigns",
            "其中有 {many} 个站点，最多 {SITES_MAX} 个：请分成多次批量部署"
        )),
    }
    if faults.is_empty() {
        return Ok(entries);
    }
    let failure = Failure::usage(said!(
        "{what} {path} is not that of a campaign",
        "{what} {path} 不能用于批量部署"; path = path.display()
    ));
    let more = faults.len().saturating_sub(FAULTS_TOLD);
    let failure = faults.into_iter().take(FAULTS_TOLD).fold(failure, Failure::because);
    let s = words::s(more);
    let failure = match more {
        0 => failure,
        _ => failure.because(said!("and {more} more fault{s}", "另有 {more} 处问题")),
    };
    Err(failure.remedy(said!("see what is expected: ctl campaign run --help", "查看要求：ctl campaign run --help")))
}

type Read = (Vec<Entry>, Vec<Said>);

/// Every workbook of a directory; what a spreadsheet program leaves beside an open one is none.
fn directory(path: &Path) -> std::io::Result<Read> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for name in names {
        let shown = name.to_string_lossy();
        if shown.starts_with('.') || shown.starts_with("~$") || !Path::new(&name).extension().is_some_and(is_workbook) {
            continue;
        }
        let site = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match check_name(&site) {
            Ok(()) => entries.push(Entry { site, workbook: path.join(&name), agent: None }),
            Err(error) => {
                faults.push(said!("{shown} is not named for a site: {error}", "{shown} 不是以站点命名：{error}"))
            }
        }
    }
    Ok((entries, faults))
}

fn is_workbook(extension: &std::ffi::OsStr) -> bool {
    extension.eq_ignore_ascii_case("xlsx")
}

fn text(path: &Path) -> std::io::Result<String> {
    let other = std::io::Error::other::<&str>;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LIST_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIST_MAX_BYTES {
        return Err(other(word!("it is larger than 1 MiB", "它大于 1 MiB")));
    }
    String::from_utf8(bytes).map_err(|_| other(word!("it is not UTF-8 text", "它不是 UTF-8 文本")))
}

/// The lines of a list; paths count from `directory`.
fn parse(text: &str, directory: &Path) -> Read {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line, directory) {
            Ok(Some(entry)) => entries.push(entry),
            // Tables are often saved with the names of their columns.
            Ok(None) if entries.is_empty() && faults.is_empty() => {}
            Ok(None) => faults.push(said!(
                "line {number}: the names of the columns belong into the first line",
                "第 {number} 行：列名应在首行"
            )),
            Err(why) => faults.push(said!("line {number}: {why}", "第 {number} 行：{why}")),
        }
    }
    (entries, faults)
}

/// One line; `None`: the names of the columns.
fn entry(line: &str, directory: &Path) -> Result<Option<Entry>, Said> {
    if line.len() > LINE_MAX_BYTES {
        return Err(said!("it is longer than {most} KiB", "超过 {most} KiB"; most = LINE_MAX_BYTES >> 10));
    }
    let mut fields = fields(line)?;
    // A table is saved with as many commas in each line.
    while fields.len() > 2 && fields.last().is_some_and(String::is_empty) {
        fields.pop();
    }
    let (site, workbook, agent) = match fields.as_slice() {
        [site, workbook] => (site, workbook, None),
        [site, workbook, agent] => (site, workbook, Some(agent)),
        other => {
            let (n, s) = (other.len(), words::s(other.len()));
            return Err(said!(
                "it has {n} field{s}, expected SITE,WORKBOOK[,AGENT]",
                "有 {n} 个字段，应为 SITE,WORKBOOK[,AGENT]"
            ));
        }
    };
    if site == "site" && workbook == "workbook" {
        return Ok(None);
    }
    check_name(site).map_err(|error| said!("the site: {error}", "站点：{error}"))?;
    if workbook.is_empty() {
        return Err(said!("site {site} has no workbook", "站点 {site} 没有规划表"));
    }
    if let Some(agent) = agent {
        check_name(agent).map_err(|error| said!("the agent: {error}", "代理：{error}"))?;
    }
    Ok(Some(Entry { site: site.clone(), workbook: directory.join(workbook), agent: agent.cloned() }))
}

/// The fields of a line: separated by commas, a field with a comma in quotes.
fn fields(line: &str) -> Result<Vec<String>, Said> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(field) = fields.last_mut() else { continue };
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => quoted = false,
            '"' if field.trim().is_empty() => {
                field.clear();
                quoted = true;
            }
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(said!("a quote is not closed", "引号未闭合"));
    }
    Ok(fields.iter().map(|field| field.trim().to_owned()).collect())
}

/// What two sites have in common, and must not.
fn doubles(entries: &[Entry]) -> Vec<Said> {
    let (mut faults, mut workbooks, mut sites) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for entry in entries {
        if sites.insert(&entry.site, ()).is_some() {
            faults.push(said!("site {site} is named twice", "站点 {site} 出现两次"; site = entry.site));
        } else if let Some(first) = workbooks.insert(&entry.workbook, &entry.site) {
            faults.push(said!(
                "sites {first} and {site} have the same workbook {path}",
                "站点 {first} 与 {site} 的规划表相同：{path}"; site = entry.site, path = entry.workbook.display()
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_of(site: &str, workbook: &str, agent: Option<&str>) -> Entry {
        Entry { site: site.to_owned(), workbook: workbook.into(), agent: agent.map(str::to_owned) }
    }

    #[test]
    fn a_list_has_comments_headings_quotes_and_empty_columns() {
        let text = "\u{feff}site,workbook,agent\r\n# night 1\r\n\r\nshanghai-1, a.xlsx,\r\nbeijing-2,\"b, final.xlsx\"\
                    ,bastion-7\r\nwuhan,/x/\"c\".xlsx\r\n";
        let (entries, faults) = parse(text, Path::new("plans"));
        assert_eq!(faults, Vec::<Said>::new());
        let expected = [
            entry_of("shanghai-1", "plans/a.xlsx", None),
            entry_of("beijing-2", "plans/b, final.xlsx", Some("bastion-7")),
            entry_of("wuhan", "/x/\"c\".xlsx", None),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn every_fault_of_a_list_is_told_with_its_line() {
        let text = "a,a.xlsx\nB,b.xlsx\nc\nd,\ne,e.xlsx,Agent!\nsite,workbook\nf,\"f.xlsx\n";
        let (entries, faults) = parse(text, Path::new(""));
        assert_eq!(entries, [entry_of("a", "a.xlsx", None)]);
        let lines: Vec<&str> = faults.iter().map(|fault| &fault.english()[..6]).collect();
        assert_eq!(lines, ["line 2", "line 3", "line 4", "line 5", "line 6", "line 7"], "{faults:?}");
    }

    #[test]
    fn a_site_or_a_workbook_twice_is_a_fault() {
        let all = [entry_of("a", "x", None), entry_of("a", "y", None), entry_of("b", "x", None)];
        assert_eq!(doubles(&all), ["site a is named twice", "sites a and b have the same workbook x"]);
    }

    #[test]
    fn a_directory_is_read_in_order_and_leaves_out_what_is_no_workbook() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.xlsx", "a.XLSX", "~$a.xlsx", ".c.xlsx", "notes.txt"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let sites: Vec<_> = read(dir.path()).unwrap().into_iter().map(|entry| entry.site).collect();
        assert_eq!(sites, ["a", "b"]);
        fs::write(dir.path().join("Shanghai 1.xlsx"), "x").unwrap();
        assert!(format!("{:?}", read(dir.path()).unwrap_err()).contains("not named for a site"));
    }
}
