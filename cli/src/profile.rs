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
    language::Said,
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
        let failure = Failure::usage(said!("no controller is configured", "未配置控制器")).remedy(said!(
            "give the profile that `controller init` or `ctl operator add` has written: --profile DIRECTORY/ctl.toml (or GANTRY_PROFILE)",
            "请指定 `controller init` 或 `ctl operator add` 生成的配置文件：--profile 目录/ctl.toml（或 GANTRY_PROFILE）"
        ));
        match default_path().as_deref().and_then(Path::parent) {
            Some(place) => {
                failure.remedy(said!(
                "or copy its directory to {place}: then no option is needed",
                "或将其目录复制到 {place}，则无需任何选项"; place = place.display()
            ))
            }
            None => failure,
        }
    })
}

fn no_profile() -> Failure {
    Failure::usage(said!(
        "a controller is given, but no profile: without its certificates nobody is let in",
        "已指定控制器但缺少配置文件：没有其中的证书无法登录"
    ))
    .remedy(said!(
        "add --profile FILE (or GANTRY_PROFILE), the profile that `controller init` or `ctl operator add` has written",
        "请加上 --profile FILE（或 GANTRY_PROFILE），即 `controller init` 或 `ctl operator add` 生成的配置文件"
    ))
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
    let text = read_text(path, &said!("the profile", "配置文件"))?;
    let profile = parse(path, &text)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let pem = |name: &str, what: Said| read_text(&directory.join(name), &what);
    let url = address.unwrap_or(&profile.controller).trim_end_matches('/').to_owned();
    if !url.starts_with("https://") || url.len() == "https://".len() {
        return Err(Failure::usage(said!("\"{url}\" is not the address of a controller", "“{url}”不是控制器地址"))
            .because(said!(
                "everything goes over TLS: the address begins with https://",
                "所有通信都经 TLS：地址须以 https:// 开头"
            ))
            .remedy(said!("write it as https://HOST:PORT", "请写成 https://HOST:PORT")));
    }
    Ok(Endpoint {
        url,
        ca: pem(&profile.ca_pem_file, said!("the controller's CA certificate", "控制器 CA 证书"))?.to_string(),
        cert: pem(&profile.cert_pem_file, said!("your certificate", "您的证书"))?.to_string(),
        key: Secret::new(pem(&profile.key_pem_file, said!("your private key", "您的私钥"))?.as_str()),
        server_name: profile.server_name,
    })
}

fn parse(path: &Path, text: &str) -> Result<OperatorProfile, Failure> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        Failure::usage(said!("the profile {path} is not valid", "配置文件 {path} 无效"; path = path.display()))
            .because(said!("line {line}: {message}", "第 {line} 行：{message}"))
            .remedy(said!(
                "compare it with a profile that `ctl operator add` writes",
                "请与 `ctl operator add` 生成的配置文件对照"
            ))
    })
}

/// A file of text within the limit.
fn read_text(path: &Path, what: &Said) -> Result<Zeroizing<String>, Failure> {
    let failure = |why: Said| {
        Failure::new(Exit::Usage, said!("cannot read {what}, {path}", "无法读取{what} {path}"; path = path.display()))
            .because(why)
            .remedy(said!(
                "check --profile (or GANTRY_PROFILE) and the file names in the profile",
                "请检查 --profile（或 GANTRY_PROFILE）以及配置文件中的文件名"
            ))
    };
    let plain = |error: io::Error| failure(io_words(&error));
    let mut bytes = Zeroizing::new(Vec::new());
    let file = fs::File::open(path).map_err(plain)?;
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(plain)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(failure(said!("it is larger than {most} KiB", "文件大于 {most} KiB"; most = FILE_MAX_BYTES >> 10)));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(failure(said!("it is not text", "内容不是文本"))),
    }
}

/// An I/O error in plain words, without the system's number.
pub(crate) fn io_words(error: &io::Error) -> Said {
    match error.kind() {
        io::ErrorKind::NotFound => said!("there is no such file", "文件不存在"),
        io::ErrorKind::PermissionDenied => said!("you may not read it", "没有读取权限"),
        io::ErrorKind::IsADirectory => said!("it is a directory", "这是一个目录"),
        _ => error.to_string().to_lowercase().into(),
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
        assert!(story.causes[0].english().starts_with("line 2: unknown field `controler`"), "{:?}", story.causes);
    }
}
