//! Who the agent is: the join file, the key for sealed secrets, the id of this start. Knows no network.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_proto::{
    AgentId, JoinFile,
    id::{IdError, check_name},
    sealed::{SealError, SealingKey},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    config::Settings,
    credentials::{Credentials, store},
};

/// The largest join file that is read, bytes.
const JOIN_FILE_MAX: u64 = 64 << 10;
/// Name of the join file in `data_dir` when the settings name none.
const JOIN_FILE: &str = "join.json";
/// Where keys lie, in `data_dir`.
const KEYS: &str = "identity";
/// The private sealing key: 32 bytes.
const SEALING_KEY: &str = "identity/sealing.key";
/// Locked for as long as an agent works with the directory.
const LOCK: &str = "lock";

/// Who the agent is.
pub struct Identity {
    /// Its id; the controller believes the certificate only.
    pub agent: AgentId,
    /// Its site.
    pub site: String,
    /// Address, CA, certificate and key; the last two change.
    pub credentials: Arc<Credentials>,
    /// Opens what was sealed to this agent.
    pub sealing: SealingKey,
    /// New at each start of the process.
    pub boot_id: String,
    /// Keeps a second agent out of the directory.
    _lock: File,
}

/// Why the agent does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk says no.
    #[error("{what} {path} cannot be used")]
    Io {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The join file holds a private key.
    #[error("the join file {path} may be read by others (mode {mode:03o}): run `chmod 600 {path}`")]
    Open {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// There is no join file.
    #[error(
        "this agent has not joined a controller: there is no {0}; make a token with `ctl agent token --site SITE`, then \
         run `agent join TOKEN` here"
    )]
    NotJoined(String),
    /// Not what `agent join` writes.
    #[error(
        "the join file {path} is not one: make a token with `ctl agent token`, then run `agent join TOKEN --again`"
    )]
    Form {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A name in the join file.
    #[error("the join file {path} holds an unusable name: run `agent join TOKEN --again`")]
    Name {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: IdError,
    },
    /// The stored key is damaged.
    #[error("the sealing key {path} is damaged: move it away, start the agent again and submit its jobs again")]
    Key {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: SealError,
    },
    /// Two agents would write the same journals.
    #[error("another agent is at work in {0}: stop it first, or give this one a data_dir of its own")]
    Busy(String),
}

impl Identity {
    /// Reads the join file, locks the data directory and takes up the sealing key, or makes one (blocking).
    pub fn load(settings: &Settings) -> Result<Self, IdentityError> {
        let file = join_path(settings);
        let (agent, join) = read_join(&file)?;
        let data = &settings.data_dir;
        let lock = lock_data(data)?;
        let sealing = sealing_key(&data.join(SEALING_KEY))?;
        let site = join.site.clone();
        let credentials = Arc::new(Credentials::new(file, &data.join(KEYS), join));
        Ok(Self { agent, site, credentials, sealing, boot_id: Uuid::now_v7().to_string(), _lock: lock })
    }

    /// Only reads who the agent is (blocking): nothing is made, and nothing is locked.
    pub(crate) fn peek(settings: &Settings) -> Result<(AgentId, JoinFile), IdentityError> {
        read_join(&settings.join_file.clone().unwrap_or_else(|| settings.data_dir.join(JOIN_FILE)))
    }
}

/// Where the join file is.
pub(crate) fn join_path(settings: &Settings) -> PathBuf {
    settings.join_file.clone().unwrap_or_else(|| settings.data_dir.join(JOIN_FILE))
}

/// Makes the data directory and keeps every other agent out of it (blocking).
pub(crate) fn lock_data(data: &Path) -> Result<File, IdentityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|source| failed("the data directory", data, source))?;
    lock(data)
}

fn read_join(path: &Path) -> Result<(AgentId, JoinFile), IdentityError> {
    let failed = |source| failed("the join file", path, source);
    let name = || path.display().to_string();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityError::NotJoined(name())),
        opened => opened.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Open { path: name(), mode });
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(JOIN_FILE_MAX).read_to_end(&mut text).map_err(failed)?;
    let join: JoinFile =
        serde_json::from_slice(&text).map_err(|source| IdentityError::Form { path: name(), source })?;
    let agent = join.agent.parse().map_err(|source| IdentityError::Name { path: name(), source })?;
    check_name(&join.site).map_err(|source| IdentityError::Name { path: name(), source })?;
    Ok((agent, join))
}

fn lock(data: &Path) -> Result<File, IdentityError> {
    let path = data.join(LOCK);
    let failed = |source| failed("the lock file", &path, source);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(IdentityError::Busy(data.display().to_string())),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn sealing_key(path: &Path) -> Result<SealingKey, IdentityError> {
    let failed = |source| failed("the sealing key", path, source);
    match fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => SealingKey::from_private(&bytes)
            .map_err(|source| IdentityError::Key { path: path.display().to_string(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SealingKey::generate();
            store(path, key.private_bytes()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Io { what, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn settings(dir: &Path, join: &str) -> Settings {
        let file = dir.join("join.json");
        fs::write(&file, join).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Settings { data_dir: dir.join("data"), join_file: Some(file), ..Settings::default() }
    }

    fn join(agent: &str) -> String {
        json!({
            "controller": "https://127.0.0.1:1", "server_name": "c", "ca_pem": "", "cert_pem": "", "key_pem": "",
            "agent": agent, "site": "s1",
        })
        .to_string()
    }

    #[test]
    fn the_sealing_key_is_made_once_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), &join("a1"));
        let one = Identity::load(&settings).unwrap();
        let (public, boot) = (*one.sealing.public_bytes(), one.boot_id.clone());
        assert_eq!(fs::metadata(settings.data_dir.join(SEALING_KEY)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&settings.data_dir).unwrap().mode() & 0o777, 0o700);
        drop(one);
        let two = Identity::load(&settings).unwrap();
        assert_eq!(*two.sealing.public_bytes(), public);
        assert_ne!(two.boot_id, boot);
    }

    #[test]
    fn a_second_agent_is_kept_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), &join("a1"));
        let _one = Identity::load(&settings).unwrap();
        assert!(matches!(Identity::load(&settings), Err(IdentityError::Busy(_))));
    }

    #[test]
    fn what_is_wrong_with_the_join_file_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Settings { join_file: Some(dir.path().join("none")), ..Settings::default() };
        let Err(told) = Identity::load(&missing) else { panic!("an agent without a join file is one") };
        assert!(told.to_string().contains("agent join TOKEN"), "{told}");
        let broken = settings(dir.path(), "{");
        assert!(matches!(Identity::load(&broken), Err(IdentityError::Form { .. })));
        let named = settings(dir.path(), &join("../a"));
        assert!(matches!(Identity::load(&named), Err(IdentityError::Name { .. })));
        let open = settings(dir.path(), &join("a1"));
        let file = open.join_file.clone().unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        let Err(refused) = Identity::load(&open) else { panic!("a join file for everybody is taken") };
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    #[test]
    fn a_damaged_sealing_key_is_not_replaced_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), &join("a1"));
        drop(Identity::load(&settings).unwrap());
        fs::write(settings.data_dir.join(SEALING_KEY), [1; 31]).unwrap();
        assert!(matches!(Identity::load(&settings), Err(IdentityError::Key { .. })));
    }
}
