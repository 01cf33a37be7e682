//! Where the controller is and who we are: the profile file, and what the command line says over it.

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use gantry_proto::{
    Secret,
    join::{OPERATOR_PROFILE_FILE, OperatorProfile},
};
use zeroize::Zeroizing;

use crate::{
    args::Global,
    exit::{Exit, Failure},
};

/// The largest profile or PEM file that is read, bytes.
const FILE_MAX_BYTES: u64 = 256 << 10;

/// A controller, and the identity to use with it.
pub(crate) struct Endpoint {
    /// `https://host:port`.
    pub(crate) url: String,
    /// The name that the controller's certificate must bear.
    pub(crate) server_name: String,
    /// The only CA that is trusted, PEM.
    pub(crate) ca: String,
    /// The operator's certificate, PEM.
    pub(crate) cert: String,
    /// The operator's key, PEM.
    pub(crate) key: Secret,
}

/// The endpoint to use; [`None`] when nobody has configured one.
pub(crate) fn find(global: &Global) -> Result<Option<Endpoint>, Failure> {
    let given = global.profile.clone().filter(|path| !path.as_os_str().is_empty());
    let path = match given {
        Some(path) => path,
        None => match default_path().filter(|path| path.exists()) {
            Some(path) => path,
            None if address(global).is_some() => return Err(no_profile()),
            None => return Ok(None),
        },
    };
    read(&path, address(global)).map(Some)
}

/// The endpoint to use; an error that says what to do when there is none.
pub(crate) fn require(global: &Global) -> Result<Endpoint, Failure> {
    find(global)?.ok_or_else(|| {
        let failure = Failure::usage("no controller is configured").remedy(
            "give the profile that `controller init` or `ctl operator add` has written: --profile DIRECTORY/ctl.toml (or GANTRY_PROFILE)",
        );
        match default_path().as_deref().and_then(Path::parent) {
            Some(place) => {
                failure.remedy(format!("or copy its directory to {}: then no option is needed", place.display()))
            }
            None => failure,
        }
    })
}

fn no_profile() -> Failure {
    Failure::usage("a controller is given, but no profile: without its certificates nobody is let in").remedy(
        "add --profile FILE (or GANTRY_PROFILE), the profile that `controller init` or `ctl operator add` has written",
    )
}

fn address(global: &Global) -> Option<&str> {
    global.controller.as_deref().filter(|url| !url.is_empty())
}

/// `$XDG_CONFIG_HOME/gantry/ctl.toml`, or the same under `~/.config`.
fn default_path() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("gantry").join(OPERATOR_PROFILE_FILE))
}

fn read(path: &Path, address: Option<&str>) -> Result<Endpoint, Failure> {
    let text = read_text(path, "the profile")?;
    let profile = parse(path, &text)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let pem = |name: &str, what: &str| read_text(&directory.join(name), what);
    let url = address.unwrap_or(&profile.controller).trim_end_matches('/').to_owned();
    if !url.starts_with("https://") || url.len() == "https://".len() {
        return Err(Failure::usage(format!("\"{url}\" is not the address of a controller"))
            .because("everything goes over TLS: the address begins with https://")
            .remedy("write it as https://HOST:PORT"));
    }
    Ok(Endpoint {
        url,
        ca: pem(&profile.ca_pem_file, "the controller's CA certificate")?.to_string(),
        cert: pem(&profile.cert_pem_file, "your certificate")?.to_string(),
        key: Secret::new(pem(&profile.key_pem_file, "your private key")?.as_str()),
        server_name: profile.server_name,
    })
}

fn parse(path: &Path, text: &str) -> Result<OperatorProfile, Failure> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        Failure::usage(format!("the profile {} is not valid", path.display()))
            .because(format!("line {line}: {message}"))
            .remedy("compare it with a profile that `ctl operator add` writes")
    })
}

/// A file of text within the limit.
fn read_text(path: &Path, what: &str) -> Result<Zeroizing<String>, Failure> {
    let failure = |why: String| {
        Failure::new(Exit::Usage, format!("cannot read {what}, {}", path.display()))
            .because(why)
            .remedy("check --profile (or GANTRY_PROFILE) and the file names in the profile")
    };
    let plain = |error: io::Error| failure(io_words(&error));
    let mut bytes = Zeroizing::new(Vec::new());
    let file = fs::File::open(path).map_err(plain)?;
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(plain)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(failure(format!("it is larger than {} KiB", FILE_MAX_BYTES >> 10)));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(failure("it is not text".to_owned())),
    }
}

/// An I/O error in plain words, without the system's number.
pub(crate) fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let text = "controller = \"https://c:1\"\ncontroler = \"x\"\n";
        let Err(Failure::Story(story)) = parse(Path::new("p.toml"), text) else { panic!("taken") };
        assert_eq!(story.exit, Exit::Usage);
        assert!(story.causes[0].starts_with("line 2: unknown field `controler`"), "{:?}", story.causes);
    }
}
