//! From what a person types to a job's id: the whole id, or a beginning or ending that no other job has.

use gantry_proto::{JobId, v1};

use crate::{client::Client, exit::Failure};

/// The shortest part of an id that is looked up.
const SHORTEST: usize = 4;
/// Jobs on one page, and how many pages are searched: with more jobs the whole id must be given.
const PAGE: u32 = 1000;
const PAGES: u32 = 10;
/// How many candidates a message names.
const NAMED: usize = 5;

/// The job that is meant.
pub(crate) async fn resolve(client: &Client, typed: &str) -> Result<JobId, Failure> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    let part = part(typed)?;
    let mut found: Vec<v1::Job> = Vec::new();
    let mut before = String::new();
    for _ in 0..PAGES {
        let request = v1::ListJobsRequest { limit: PAGE, before_job_id: before, ..Default::default() };
        let page = client.list(request).await?;
        let full = page.len() as u32 >= PAGE;
        before = page.last().map(|job| job.job_id.clone()).unwrap_or_default();
        found.extend(page.into_iter().filter(|job| fits(&job.job_id, &part)));
        if !full {
            return choose(typed, &found);
        }
    }
    Err(Failure::usage(said!(
        "there are more than {most} jobs, so a part of an id is not searched for",
        "作业超过 {most} 个，不按部分标识查找"; most = PAGE * PAGES
    ))
    .remedy(said!("give the whole id", "请给出完整标识")))
}

/// What is typed, as it is compared: lower case, without hyphens.
fn part(typed: &str) -> Result<String, Failure> {
    let part: String = typed.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if part.len() < SHORTEST || part.len() >= 32 || !part.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Failure::usage(said!("\"{typed}\" is not a job id", "“{typed}”不是作业标识"))
            .because(said!(
                "expected a UUID of version 7, or at least {SHORTEST} hexadecimal digits of one",
                "应为版本 7 的 UUID，或其中至少 {SHORTEST} 位十六进制数字"
            ))
            .remedy(said!("list the jobs: ctl jobs", "列出作业：ctl jobs")));
    }
    Ok(part)
}

fn fits(id: &str, part: &str) -> bool {
    let id = id.replace('-', "");
    id.starts_with(part) || id.ends_with(part)
}

fn choose(typed: &str, found: &[v1::Job]) -> Result<JobId, Failure> {
    match found {
        [job] => job
            .job_id
            .parse()
            .map_err(|_| Failure::usage(said!("the controller has no job \"{typed}\"", "控制器没有作业“{typed}”"))),
        [] => Err(Failure::usage(said!(
            "the controller has no job that begins or ends with \"{typed}\"",
            "控制器没有以“{typed}”开头或结尾的作业"
        ))
        .remedy(said!("list the jobs: ctl jobs", "列出作业：ctl jobs"))),
        several => {
            let names: Vec<_> = several.iter().take(NAMED).map(|job| job.job_id.as_str()).collect();
            let more = if several.len() > NAMED { ", …" } else { "" };
            Err(Failure::usage(said!(
                "{n} jobs begin or end with \"{typed}\"",
                "有 {n} 个作业以“{typed}”开头或结尾"; n = several.len()
            ))
            .because(format!("{}{more}", names.join(", ")))
            .remedy(said!("give more of the id", "请给出更长的标识")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn job(id: &str) -> v1::Job {
        v1::Job { job_id: id.to_owned(), ..Default::default() }
    }

    #[test]
    fn a_beginning_or_an_ending_is_enough() {
        let id = "01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0c";
        for part in ["01976f2e", "01976f2e8c1a7e", "3f2a1b0c", "1b0c"] {
            assert!(fits(id, part), "{part}");
        }
        assert!(!fits(id, "9d55"));
        assert_eq!(part("0A1B3F2A-1b0c").unwrap(), "0a1b3f2a1b0c");
        for bad in ["", "1b0", "xyz12345", "../../etc"] {
            assert_eq!(part(bad).unwrap_err().exit(), Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn several_are_named_and_none_is_said() {
        let all = [job("01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0c"), job("01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0d")];
        assert_eq!(choose("1b0c", &all[..1]).unwrap().to_string(), all[0].job_id);
        assert!(format!("{:?}", choose("0197", &all)).contains("0a1b3f2a1b0d"));
        assert!(choose("ffff", &[]).is_err());
    }
}
