//! What `controller init`, `operator-file` and `backup` make. Nothing that exists is ever overwritten.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use gantry_proto::{
    OperatorProfile, Secret,
    audit::{Entry, Outcome},
    id::{IdError, check_name},
    join::OPERATOR_PROFILE_FILE,
    v1::Role,
};
use jiff::Timestamp;
use x509_parser::prelude::{GeneralName, Pem};

use crate::{
    STORE_FILE,
    access::later,
    audit::act,
    authority::{Authority, AuthorityError},
    config::{CONFIG_FILE, Config},
    files::{self, FileError},
    peer::{OperatorName, Peer},
    store::{IdentityChange, OperatorRow, SqliteStore, Store as _, StoreError},
};

/// Name of the first operator.
pub const FIRST_OPERATOR: &str = "admin";

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A name of an operator.
    #[error(transparent)]
    Name(#[from] IdError),
    /// There is no CA to sign with.
    #[error("there is no CA in {}: run `controller init --data {}` first", .0.display(), .0.display())]
    NoAuthority(PathBuf),
    /// The server's certificate is there and does not have a name that is wanted.
    #[error(
        "the server's certificate {} does not bear the name \"{name}\" and is not overwritten: remove the directory {} \
         and run this again to have a new one made", cert.display(), cert.parent().unwrap_or(cert).display()
    )]
    ServerName {
        /// The certificate.
        cert: PathBuf,
        /// The name that it lacks.
        name: String,
    },
    /// The server's certificate is no certificate.
    #[error("the server's certificate {} cannot be read: {why}", cert.display())]
    ServerCertificate {
        /// The file.
        cert: PathBuf,
        /// Why.
        why: String,
    },
    /// The store.
    #[error("using the store {}", .0.display())]
    Store(PathBuf, #[source] StoreError),
    /// Settings or a profile that cannot be written as text.
    #[error("writing {0} as text")]
    Text(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Something that a command made or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it is, for people.
    pub what: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// False when it was there before.
    pub new: bool,
}

/// The files of the server's own identity.
pub struct ServerFiles {
    /// Certificate, PEM.
    pub cert_pem: String,
    /// Key, PEM.
    pub key_pem: Secret,
    /// The CA, PEM.
    pub ca_pem: String,
}

/// Makes everything that a controller needs to run, and the first operator's profile. What exists is kept.
///
/// # Errors
/// When a file cannot be made, or the server's certificate exists and lacks a name.
pub fn init(config: &Config) -> Result<Vec<Made>, SetupError> {
    let mut made = ensure_server(config)?;
    let file = config.data.join(CONFIG_FILE);
    let new = !file.exists();
    if new {
        files::write_new(&file, settings_text(config)?.as_bytes(), files::PUBLIC)?;
    }
    made.push(Made { what: "settings", path: file, new });
    made.push(first_operator(config)?);
    Ok(made)
}

/// Makes what `run` cannot do without: directory, CA and server certificate. What exists is kept.
///
/// # Errors
/// As [`init`].
pub fn ensure_server(config: &Config) -> Result<Vec<Made>, SetupError> {
    files::private_dir(&config.data)?;
    let ca_dir = config.data.join("ca");
    let (authority, ca_new) = Authority::open(&ca_dir, config.certificates.ca_days)?;
    let tls = config.data.join("tls");
    let (cert, key) = (tls.join("server.pem"), tls.join("server.key"));
    let names = server_names(config);
    let server_new = !cert.exists();
    if server_new {
        files::private_dir(&tls)?;
        let issued = authority.issue_server(&names, config.certificates.server_days)?;
        files::replace(&key, issued.key_pem.expose().as_bytes(), files::PRIVATE)?;
        // Last: a certificate says that the key beside it is its own.
        files::write_new(&cert, issued.cert_pem.as_bytes(), files::PUBLIC)?;
    } else {
        bears_names(&cert, &names)?;
    }
    Ok(vec![
        Made { what: "CA (keep ca.key secret and back it up)", path: ca_dir, new: ca_new },
        Made { what: "server certificate", path: cert, new: server_new },
    ])
}

/// The first operator's profile directory: `ctl` works with it at once.
///
/// # Errors
/// As [`init`].
pub fn first_operator(config: &Config) -> Result<Made, SetupError> {
    let dir = config.data.join("operators").join(FIRST_OPERATOR);
    let new = !dir.join(OPERATOR_PROFILE_FILE).exists();
    let path = if new { operator_file(config, FIRST_OPERATOR, &dir)? } else { dir.join(OPERATOR_PROFILE_FILE) };
    Ok(Made { what: "operator profile", path, new })
}

/// The server's identity, as `run` needs it.
///
/// # Errors
/// When a file is missing.
pub fn server_files(data: &Path) -> Result<ServerFiles, SetupError> {
    Ok(ServerFiles {
        cert_pem: files::read(&data.join("tls/server.pem"))?,
        key_pem: Secret::new(files::read(&data.join("tls/server.key"))?),
        ca_pem: files::read(&data.join("ca/ca.pem"))?,
    })
}

/// Writes an operator's certificate, key, CA and profile into `dir`. Returns the profile's path.
///
/// # Errors
/// When the name is unusable, or a file exists.
pub fn operator_file(config: &Config, name: &str, dir: &Path) -> Result<PathBuf, SetupError> {
    check_name(name)?;
    let authority = authority(config)?;
    let issued =
        authority.issue_peer(&Peer::Operator(OperatorName(name.to_owned())), config.certificates.operator_days)?;
    let (controller, server_name) = config.address();
    let profile = OperatorProfile {
        controller,
        server_name,
        ca_pem_file: "ca.pem".to_owned(),
        cert_pem_file: "cert.pem".to_owned(),
        key_pem_file: "key.pem".to_owned(),
    };
    let text = toml::to_string(&profile).map_err(|error| SetupError::Text("the profile", error.into()))?;
    let path = dir.join(OPERATOR_PROFILE_FILE);
    // The profile is written last: a directory without one is unfinished and is made anew.
    if path.exists() {
        files::write_new(&path, &[], files::PUBLIC)?;
    }
    files::private_dir(dir)?;
    files::replace(&dir.join("ca.pem"), authority.pem().as_bytes(), files::PUBLIC)?;
    files::replace(&dir.join("cert.pem"), issued.cert_pem.as_bytes(), files::PUBLIC)?;
    files::replace(&dir.join("key.pem"), issued.key_pem.expose().as_bytes(), files::PRIVATE)?;
    files::write_new(&path, text.as_bytes(), files::PUBLIC)?;
    Ok(path)
}

/// The CA that is there.
///
/// # Errors
/// When there is none.
pub fn authority(config: &Config) -> Result<Authority, SetupError> {
    let dir = config.data.join("ca");
    if !dir.exists() {
        return Err(SetupError::NoAuthority(config.data.clone()));
    }
    Ok(Authority::open(&dir, config.certificates.ca_days)?.0)
}

fn server_names(config: &Config) -> Vec<String> {
    let mut names = config.names.clone();
    for always in ["localhost", "127.0.0.1"] {
        if !names.iter().any(|name| name == always) {
            names.push(always.to_owned());
        }
    }
    names
}

/// Checks that a certificate bears every name.
fn bears_names(cert: &Path, names: &[String]) -> Result<(), SetupError> {
    let unreadable = |why: String| SetupError::ServerCertificate { cert: cert.to_owned(), why };
    let text = files::read(cert)?;
    let (pem, _) = Pem::read(std::io::Cursor::new(text)).map_err(|error| unreadable(error.to_string()))?;
    let certificate = pem.parse_x509().map_err(|error| unreadable(error.to_string()))?;
    let sans = certificate.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    let sans = sans.map(|sans| &sans.value.general_names[..]).unwrap_or_default();
    for name in names {
        let address = name.parse::<IpAddr>().ok();
        let bears = sans.iter().any(|san| match san {
            GeneralName::DNSName(dns) => dns == name,
            GeneralName::IPAddress(bytes) => match address {
                Some(IpAddr::V4(v4)) => *bytes == v4.octets(),
                Some(IpAddr::V6(v6)) => *bytes == v6.octets(),
                None => false,
            },
            _ => false,
        });
        if !bears {
            return Err(SetupError::ServerName { cert: cert.to_owned(), name: name.clone() });
        }
    }
    Ok(())
}

/// Lets somebody in as an admin, whatever the store says of them, and writes their profile into `dir`: for when nobody is
/// left who could. Works beside a running controller. Returns the profile's path.
///
/// # Errors
/// When the name is unusable, the directory has a profile, or the store cannot be written.
pub async fn let_in(config: &Config, name: &str, dir: &Path) -> Result<PathBuf, SetupError> {
    check_name(name)?;
    // Nothing is changed for a directory that cannot be used.
    if dir.join(OPERATOR_PROFILE_FILE).exists() {
        files::write_new(&dir.join(OPERATOR_PROFILE_FILE), &[], files::PUBLIC)?;
    }
    authority(config)?;
    let store = open_store(config).await?;
    let now = Timestamp::now();
    let expires = later(now, u64::from(config.certificates.operator_days) * 24 * 3600);
    let row = OperatorRow {
        name: name.to_owned(),
        role: Role::Admin,
        sites: Vec::new(),
        revoked: false,
        valid_from: now,
        expires,
        added: now,
        added_by: String::new(),
    };
    let entry = Entry {
        act: act::OPERATOR_RESCUE.to_owned(),
        outcome: Outcome::Done,
        subject: format!("operator {name}"),
        detail: "role admin; on the controller's host".to_owned(),
        ..Entry::default()
    };
    let written = match store.append_audit(entry).await {
        Ok(_) => store.change_identity(IdentityChange::RescueOperator(row)).await,
        Err(error) => Err(error),
    };
    store.close().await;
    written.map_err(|source| SetupError::Store(config.data.join(STORE_FILE), source))?;
    let (own, name, dir) = (config.clone(), name.to_owned(), dir.to_owned());
    let made = tokio::task::spawn_blocking(move || operator_file(&own, &name, &dir)).await;
    made.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Copies what a controller cannot be made again from into a new directory: CA, server certificate, settings, and the
/// store as it is at one moment. Works beside a running controller. Put back as its data directory, it is the same
/// controller.
///
/// # Errors
/// When the directory is there, or a file cannot be read or written.
pub async fn backup(config: &Config, out: &Path) -> Result<Vec<PathBuf>, SetupError> {
    if out.symlink_metadata().is_ok() {
        files::write_new(out, &[], files::PRIVATE)?;
    }
    let store = open_store(config).await?;
    files::private_dir(out)?;
    let copy = out.join(STORE_FILE);
    let copied = store.copy_into(&copy).await;
    store.close().await;
    copied.map_err(|source| SetupError::Store(copy.clone(), source))?;
    files::make_private(&copy)?;
    let mut made = vec![copy];
    let names = ["ca/ca.pem", "ca/ca.key", "tls/server.pem", "tls/server.key", CONFIG_FILE];
    for name in names {
        let (from, to) = (config.data.join(name), out.join(name));
        if name == CONFIG_FILE && !from.exists() {
            continue;
        }
        files::private_dir(to.parent().unwrap_or(out))?;
        let text = Secret::new(files::read(&from)?);
        files::write_new(&to, text.expose().as_bytes(), files::PRIVATE)?;
        made.push(to);
    }
    Ok(made)
}

async fn open_store(config: &Config) -> Result<SqliteStore, SetupError> {
    let path = config.data.join(STORE_FILE);
    if !path.exists() {
        files::private_dir(&config.data)?;
        files::write_new(&path, &[], files::PRIVATE)?;
    }
    SqliteStore::open(&path, &config.store).await.map_err(|source| SetupError::Store(path, source))
}

/// The settings that differ between installations; everything else has its default.
fn settings_text(config: &Config) -> Result<String, SetupError> {
    #[derive(serde::Serialize)]
    struct Own<'a> {
        listen: std::net::SocketAddr,
        names: &'a [String],
        #[serde(skip_serializing_if = "str::is_empty")]
        url: &'a str,
    }
    let own = Own { listen: config.listen, names: &config.names, url: &config.url };
    let text = toml::to_string(&own).map_err(|error| SetupError::Text("the settings", error.into()))?;
    Ok(format!("# Settings of this controller. Every key: deploy/config/controller.toml\n{text}"))
}
