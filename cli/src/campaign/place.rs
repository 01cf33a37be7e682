//! The files of one campaign: its state, replaced as a whole; the lock of the run that works on it; and the mark that
//! it is paused, a file of its own so that whoever pauses and whoever runs never write to the same one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::state::State;
use crate::{
    args::CampaignOf,
    exit::{Exit, Failure},
    language::Said,
    profile::io_words,
    render::units,
};

/// Larger than any state that is written: 1000 sites with the longest messages.
const STATE_MAX_BYTES: u64 = 16 << 20;
/// The largest mark that is read.
const MARK_MAX_BYTES: u64 = 256;

/// Where a campaign's files are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As it was typed, for messages.
    sites: PathBuf,
    state: PathBuf,
}

impl Place {
    /// Beside the directory or the list, unless it is said where.
    pub(crate) fn of(args: &CampaignOf) -> Result<Self, Failure> {
        let state = match &args.state {
            Some(state) => state.clone(),
            // `.` and `sites/` have names too.
            None => beside(&args.sites).map_err(|error| {
                Failure::usage(said!(
                    "cannot find the sites of the campaign, {path}",
                    "找不到批量部署的站点 {path}"; path = args.sites.display()
                ))
                .because(io_words(&error))
                .remedy(said!(
                    "check the path, or say with --state where the campaign's state is",
                    "请检查路径，或用 --state 指明状态文件的位置"
                ))
            })?,
        };
        Ok(Self { sites: args.sites.clone(), state })
    }

    /// The state's file.
    pub(crate) fn file(&self) -> &Path {
        &self.state
    }

    /// What the campaign is called in messages and commands.
    pub(crate) fn name(&self) -> String {
        self.sites.display().to_string()
    }

    /// A command about this campaign.
    pub(crate) fn command(&self, verb: &str) -> String {
        let state = match beside(&self.sites) {
            Ok(state) if state == self.state => String::new(),
            _ => format!(" --state {}", self.state.display()),
        };
        format!("ctl campaign {verb} {}{state}", self.sites.display())
    }

    /// Keeps other runs away while it lives, and no longer: also not when we are killed.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.beside("lock"));
        match file.and_then(|file| file.try_lock().map(|()| file).map_err(io::Error::from)) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Failure::new(
                Exit::Refused,
                said!("campaign {name} is being run already", "批量部署 {name} 已在执行"; name = self.name()),
            )
            .because(said!(
                "another ctl holds {path}",
                "另一个 ctl 占用 {path}"; path = self.beside("lock").display()
            ))
            .remedy(said!("see how it stands: {command}", "查看其状态：{command}"; command = self.command("status")))
            .remedy(said!(
                "or end that ctl with Ctrl-C, then give the command again",
                "或用 Ctrl-C 结束该 ctl，再重新执行该命令"
            ))),
            Err(error) => Err(self.unwritten(&error)),
        }
    }

    /// Whether a run works on it now.
    pub(crate) fn is_run(&self) -> bool {
        let Ok(file) = File::open(self.beside("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The state, if there is one.
    pub(crate) fn read(&self) -> Result<Option<State>, Failure> {
        let failed = |why: Said| {
            Failure::usage(said!(
                "cannot read the campaign's state, {path}",
                "无法读取批量部署的状态文件 {path}"; path = self.state.display()
            ))
            .because(why)
            .remedy(said!(
                "put the file back as it was: it knows which sites have a job already",
                "请将该文件恢复原样：其中记录了哪些站点已有作业"
            ))
        };
        let text = match read_bounded(&self.state, STATE_MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(io_words(&error))),
        };
        let state: State = serde_json::from_slice(&text).map_err(|error| failed(error.to_string().into()))?;
        state.fault().map_or(Ok(Some(state)), |fault| Err(failed(fault)))
    }

    /// The state of a campaign that has been begun.
    pub(crate) fn require(&self) -> Result<State, Failure> {
        self.read()?.ok_or_else(|| {
            Failure::usage(said!(
                "campaign {name} has not been begun",
                "批量部署 {name} 尚未开始"; name = self.name()
            ))
            .because(said!("there is no {path}", "没有 {path}"; path = self.state.display()))
            .remedy(said!("begin it: {command}", "开始：{command}"; command = self.command("run")))
        })
    }

    /// Replaces the state. It is on disk when this returns: what is submitted then is known to the next run.
    pub(crate) fn write(&self, state: &State) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(state).map_err(io::Error::other);
        text.and_then(|text| replace(&self.state, &text)).map_err(|error| self.unwritten(&error))
    }

    /// Since when it is paused.
    pub(crate) fn paused_since(&self) -> Option<String> {
        let mark = read_bounded(&self.beside("paused"), MARK_MAX_BYTES).ok()?;
        Some(String::from_utf8_lossy(&mark).trim().to_owned())
    }

    /// Marks it as paused. False: it was.
    pub(crate) fn pause(&self) -> Result<bool, Failure> {
        if self.paused_since().is_some() {
            return Ok(false);
        }
        replace(&self.beside("paused"), units::time(Timestamp::now()).as_bytes())
            .map_err(|error| self.unwritten(&error))?;
        Ok(true)
    }

    /// Takes the mark away. False: it was not paused.
    pub(crate) fn resume(&self) -> Result<bool, Failure> {
        match fs::remove_file(self.beside("paused")) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unwritten(&error)),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.state.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
    }

    fn unwritten(&self, error: &io::Error) -> Failure {
        Failure::usage(said!(
            "cannot write the campaign's state, {path}",
            "无法写入批量部署的状态文件 {path}"; path = self.state.display()
        ))
        .because(error.to_string().to_lowercase())
        .remedy(said!(
            "make room there, or say with --state where you may write; without it no job begins",
            "请腾出空间，或用 --state 指明可写的位置；没有它不会开始任何作业"
        ))
    }
}

fn beside(sites: &Path) -> io::Result<PathBuf> {
    let sites = sites.canonicalize()?;
    let mut name = sites.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".campaign.json");
    Ok(sites.with_file_name(name))
}

fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        Err(io::Error::other(say!("it is larger than {most} bytes", "它大于 {most} 字节")))
    } else {
        Ok(bytes)
    }
}

/// All or nothing: a name is given to what is on disk.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Colleagues may look: there is no secret in it.
    let builder = builder.prefix(".gantry-campaign-").permissions(fs::Permissions::from_mode(0o644));
    let mut part = builder.tempfile_in(directory)?;
    part.write_all(text)?;
    part.as_file().sync_all()?;
    part.persist(path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use gantry_proto::Secret;

    use super::*;
    use crate::profile::Endpoint;

    fn place(dir: &Path) -> Place {
        let sites = dir.join("sites");
        fs::create_dir_all(&sites).unwrap();
        Place::of(&CampaignOf { sites, state: None }).unwrap()
    }

    fn state() -> State {
        let (url, server_name, ca, cert) = (String::new(), String::new(), String::new(), String::new());
        State::new(&Endpoint { url, server_name, ca, cert, key: Secret::new("") })
    }

    #[test]
    fn the_state_is_beside_the_sites_and_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        assert_eq!(place.file().file_name().unwrap(), "sites.campaign.json");
        assert!(place.read().unwrap().is_none() && place.require().is_err());
        place.write(&state()).unwrap();
        assert_eq!(place.require().unwrap(), state());
        assert!(place.command("run").ends_with("sites"), "{}", place.command("run"));
        fs::write(place.file(), "{}").unwrap();
        assert!(place.read().is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        assert!(!place.is_run());
        let held = place.lock().unwrap();
        assert!(place.is_run());
        assert_eq!(place.lock().unwrap_err().exit(), Exit::Refused);
        drop(held);
        assert!(!place.is_run() && place.lock().is_ok());
    }

    #[test]
    fn a_pause_lasts_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        assert!(!place.resume().unwrap());
        assert!(place.pause().unwrap() && !place.pause().unwrap());
        assert!(place.paused_since().is_some_and(|since| since.ends_with('Z')));
        assert!(place.resume().unwrap() && place.paused_since().is_none());
    }
}
