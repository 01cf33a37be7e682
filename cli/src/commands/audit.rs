//! `ctl audit`: who did what; and the log as a file that can be checked without a controller.

use std::{
    fs,
    io::{self, BufRead as _, Read as _},
    path::{Path, PathBuf},
};

use gantry_proto::{
    audit::{Fault, Head, LINE_MAX, Verified, Verifier},
    v1,
};
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::Cx;
use crate::{
    args::{Audit, AuditCommand, AuditList, AuditVerify, Format},
    exit::{Exit, Failure},
    jobref,
    outfile::{there_already, unwritten},
    profile::io_words,
    records::Records,
    render::audit,
};

/// Mode of an export: it names people and addresses.
const PRIVATE: u32 = 0o600;

/// Lists, exports or verifies.
pub(crate) async fn run(cx: &Cx, args: Audit) -> Result<(), Failure> {
    match args.command {
        None => list(cx, args.list).await,
        Some(AuditCommand::Export { file }) => export(cx, &file).await,
        Some(AuditCommand::Verify(args)) => verify(cx, args).await,
    }
}

async fn list(cx: &Cx, args: AuditList) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let job_id = match &args.job {
        Some(job) => jobref::resolve(&client, job).await?.to_string(),
        None => String::new(),
    };
    let request = v1::ListAuditRequest {
        limit: args.limit,
        newest: true,
        job_id,
        operator: args.by.unwrap_or_default(),
        since_micros: args.since.map_or(0, |since| since.as_microsecond()),
        ..Default::default()
    };
    let (records, head) = Records::ask(&client, request).await?.all().await?;
    match cx.out.format {
        Format::Table => cx.out.text(&audit::text(&records, head, cx.out.columns())),
        Format::Json => cx.out.json(&json!({ "records": records, "head": audit::head(head) })),
        Format::Ndjson => records.iter().try_for_each(|record| cx.out.text(&record.line())),
    }
}

async fn export(cx: &Cx, file: &Path) -> Result<(), Failure> {
    if tokio::fs::try_exists(file).await.unwrap_or(false) {
        return Err(there_already(file));
    }
    let client = cx.connect().await?;
    let records = Records::ask(&client, v1::ListAuditRequest::default()).await?;
    // A half is never taken for the whole: it gets its name at the end.
    let mut part = file.as_os_str().to_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write(records, &part).await;
    let verified = match written {
        Ok(verified) => verified,
        Err(failure) => {
            let _ = tokio::fs::remove_file(&part).await;
            return Err(failure);
        }
    };
    tokio::fs::rename(&part, file).await.map_err(|error| unwritten(file, &error))?;
    tell(cx, &say!("exported to {path}", "已导出到 {path}"; path = file.display()), &verified, true)
}

/// Writes and checks everything that comes, up to the head.
async fn write(mut records: Records<'_>, part: &Path) -> Result<Verified, Failure> {
    let failed = |error: io::Error| unwritten(part, &error);
    let mut options = tokio::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(PRIVATE).open(part).await.map_err(failed)?;
    let mut file = BufWriter::new(file);
    // It ends where the log ended when it was asked for.
    let mut verifier = Verifier::new(Some(records.head));
    while let Some(page) = records.next().await? {
        for record in &page {
            verifier.record(record);
            file.write_all(format!("{}\n", record.line()).as_bytes()).await.map_err(failed)?;
        }
    }
    file.flush().await.map_err(failed)?;
    file.get_ref().sync_all().await.map_err(failed)?;
    Ok(verifier.end())
}

async fn verify(cx: &Cx, args: AuditVerify) -> Result<(), Failure> {
    let (file, known) = (args.file.clone(), args.head);
    let reading = tokio::task::spawn_blocking(move || read(&file, known)).await;
    let read =
        reading.map_err(|_| Failure::new(Exit::Internal, said!("the check of the file broke off", "文件校验中断")))?;
    let mut verified = read.map_err(|error| {
        let path = args.file.display();
        Failure::new(Exit::Rejected, said!("cannot read the audit log {path}", "无法读取审计日志 {path}"))
            .because(io_words(&error))
            .remedy(said!("give a file that `ctl audit export` has written", "请给出由 `ctl audit export` 生成的文件"))
    })?;
    if args.head_from_controller {
        against_controller(cx, &mut verified).await?;
    }
    let checked_end = known.is_some() || args.head_from_controller;
    tell(cx, &args.file.display().to_string(), &verified, checked_end)
}

/// The end of the file has to be the head that the controller has now.
async fn against_controller(cx: &Cx, verified: &mut Verified) -> Result<(), Failure> {
    let Head { number: last, hash } = verified.head;
    let client = cx.connect().await?;
    let request = v1::ListAuditRequest { after_number: last.saturating_sub(1), limit: 1, ..Default::default() };
    let (records, head) = Records::ask(&client, request).await?.all().await?;
    let same = records.first().is_some_and(|record| record.number == last && record.hash == hash);
    if !same {
        verified.faults.push(Fault::OtherHead { number: last });
    } else if head.number > last {
        verified.faults.push(Fault::CutShort { last, known: head.number });
    }
    Ok(())
}

fn read(path: &Path, known: Option<Head>) -> io::Result<Verified> {
    // Opening a pipe waits until somebody writes into it, perhaps for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other(word!("it is not a regular file", "它不是普通文件")));
    }
    let mut file = io::BufReader::new(fs::File::open(path)?);
    let mut verifier = Verifier::new(known);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = file.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(verifier.end());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read > LINE_MAX {
            verifier.unreadable_line("it is too long");
            skip_line(&mut file)?;
            continue;
        }
        match std::str::from_utf8(&line) {
            Ok(line) => verifier.line(line),
            Err(_) => verifier.unreadable_line("it is not text"),
        }
    }
}

/// The rest of a line, without keeping it.
fn skip_line(file: &mut impl io::BufRead) -> io::Result<()> {
    loop {
        let seen = file.fill_buf()?;
        let (length, end) = (seen.len(), seen.iter().position(|byte| *byte == b'\n'));
        file.consume(end.map_or(length, |end| end + 1));
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

/// Tells what a check has found; a fault is the exit code too.
fn tell(cx: &Cx, what: &str, verified: &Verified, checked_end: bool) -> Result<(), Failure> {
    match cx.out.format {
        Format::Table => cx.out.text(&audit::verdict(what, verified, checked_end))?,
        Format::Json | Format::Ndjson => cx.out.json(&audit::verdict_document(verified, checked_end))?,
    }
    if verified.is_sound() { Ok(()) } else { Err(Failure::Told(Exit::Rejected)) }
}
