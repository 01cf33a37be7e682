//! The ranges that an agent may speak with, chosen when it joins: written into its settings file, never into the
//! operator's words in it.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::{ConfigError, SETTINGS_FILE, SETTINGS_MAX, Settings};

/// Ranges in a settings file, at most.
pub(super) const RANGES_MAX: usize = 256;

/// Why a choice of ranges cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// Not a range.
    #[error("\"{0}\" is not a range like 10.0.0.0/8 or fc00::/7")]
    Form(String),
    /// None, or too many.
    #[error("between 1 and {RANGES_MAX} ranges are needed, {0} were given")]
    Count(usize),
    /// The operator's own words stand there.
    #[error("{0} sets `allow` already: change it there, or leave --allow out")]
    Set(String),
    /// The settings file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot be written.
    #[error("the settings file {0} cannot be written")]
    Write(String, #[source] io::Error),
}

/// Where the choice is kept: the settings file that is named, or the one in the data directory.
#[derive(Clone, Debug)]
pub struct AllowFile {
    path: PathBuf,
    /// `None`: there is no such file.
    text: Option<String>,
    is_set: bool,
}

/// Ranges from a person: separated by commas or blanks. A single address is a range of one.
///
/// # Errors
/// [`AllowError::Form`] and [`AllowError::Count`].
pub fn parse_ranges(text: &str) -> Result<Vec<IpNet>, AllowError> {
    let words = text.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
    let range = |word: &str| {
        let single = || word.parse::<IpAddr>().ok().map(IpNet::from);
        word.parse::<IpNet>().ok().or_else(single).ok_or_else(|| AllowError::Form(word.chars().take(60).collect()))
    };
    let mut ranges: Vec<IpNet> = Vec::new();
    for word in words {
        let range: IpNet = range(word)?.trunc();
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    match ranges.len() {
        1..=RANGES_MAX => Ok(ranges),
        count => Err(AllowError::Count(count)),
    }
}

impl AllowFile {
    /// Looks at the settings file (blocking).
    ///
    /// # Errors
    /// [`AllowError::Config`] when it cannot be read.
    pub fn of(settings: &Settings, named: Option<&Path>) -> Result<Self, AllowError> {
        let path = named.map_or_else(|| settings.data_dir.join(SETTINGS_FILE), Path::to_owned);
        if named.is_none() && !path.exists() {
            return Ok(Self { path, text: None, is_set: false });
        }
        let name = || path.display().to_string();
        let failed = |error| AllowError::Config(ConfigError::Read(name(), error));
        if fs::metadata(&path).map_err(failed)?.len() > SETTINGS_MAX {
            return Err(failed(io::Error::other("it is longer than 1 MiB")));
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| ConfigError::Form(name(), Box::new(error)))?;
        let is_set = table.contains_key("allow");
        Ok(Self { path, text: Some(text), is_set })
    }

    /// Whether the file says which ranges.
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the ranges: before everything else in the file, for a key after a table would be the table's. Whoever reads
    /// sees the old file or the new one (blocking).
    ///
    /// # Errors
    /// [`AllowError::Set`] when the file says them already, [`AllowError::Write`] when the disk says no.
    pub fn keep(&self, ranges: &[IpNet]) -> Result<(), AllowError> {
        let name = || self.path.display().to_string();
        if self.is_set {
            return Err(AllowError::Set(name()));
        }
        let list: Vec<String> = ranges.iter().map(|range| format!("\"{range}\"")).collect();
        let text = format!(
            "# Ranges that plans may lead this agent to; chosen when it joined.\nallow = [{}]\n{}",
            list.join(", "),
            self.text.as_deref().unwrap_or_default()
        );
        self.write(&text).map_err(|error| AllowError::Write(name(), error))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        // Through a link to where the file is: the link stays.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let beside = target.with_extension("toml.new");
        let mut file = File::create(&beside)?;
        if let Ok(before) = fs::metadata(&target) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Vec<String> {
        parse_ranges(text).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_as_people_write_them() {
        assert_eq!(ranges("10.1.0.0/16, 192.0.2.7 fc00::/7\n"), ["10.1.0.0/16", "192.0.2.7/32", "fc00::/7"]);
        assert_eq!(ranges("10.1.2.3/16,10.1.0.0/16"), ["10.1.0.0/16"], "host bits are no matter, and twice is once");
        for bad in ["10.0.0.0/33", "cluster.example", "10.0.0.0-10.0.0.9"] {
            assert!(matches!(parse_ranges(bad), Err(AllowError::Form(word)) if word == bad), "{bad}");
        }
        assert!(matches!(parse_ranges(" , "), Err(AllowError::Count(0))));
        let many: Vec<String> = (0..=RANGES_MAX).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
        assert!(matches!(parse_ranges(&many.join(",")), Err(AllowError::Count(257))));
    }

    #[test]
    fn the_choice_is_kept_and_every_other_word_stays() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        let chosen = parse_ranges("10.9.0.0/16").unwrap();
        AllowFile::of(&settings, None).unwrap().keep(&chosen).unwrap();
        let load = |file: Option<&Path>| Settings::load(file, Some(&settings.data_dir), None).unwrap();
        assert_eq!(load(None).allow, chosen);

        let named = dir.path().join("a.toml");
        let words = "# ours\niso_dir = \"/isos\"\n[jobs]\nconcurrent = 3 # three\n";
        fs::write(&named, words).unwrap();
        AllowFile::of(&settings, Some(&named)).unwrap().keep(&chosen).unwrap();
        let loaded = load(Some(&named));
        assert_eq!((loaded.allow, loaded.jobs.concurrent), (chosen.clone(), 3));
        assert!(fs::read_to_string(&named).unwrap().ends_with(words));

        let again = AllowFile::of(&settings, Some(&named)).unwrap();
        assert!(again.is_set());
        assert!(matches!(again.keep(&parse_ranges("10.8.0.0/16").unwrap()), Err(AllowError::Set(_))));
        assert_eq!(load(Some(&named)).allow, chosen);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        let named = dir.path().join("a.toml");
        assert!(matches!(AllowFile::of(&settings, Some(&named)), Err(AllowError::Config(ConfigError::Read(..)))));
        fs::write(&named, "allow = [").unwrap();
        assert!(matches!(AllowFile::of(&settings, Some(&named)), Err(AllowError::Config(ConfigError::Form(..)))));
    }
}
