//! `ctl operator`: who works with this controller. A new operator's key is made here and never travels to the controller.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use gantry_proto::{
    OperatorProfile, Secret,
    join::OPERATOR_PROFILE_FILE,
    v1::{self, Role},
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use super::Cx;
use crate::{
    args::{Format, OperatorAdd, OperatorCommand, OperatorSet},
    client::Lost,
    exit::{Exit, Failure},
    outfile::parent,
    render::access,
};

/// For keys.
const PRIVATE: u32 = 0o600;
/// For certificates and the profile.
const PUBLIC: u32 = 0o644;

/// Adds, changes, lists or revokes.
pub(crate) async fn run(cx: &Cx, command: OperatorCommand) -> Result<(), Failure> {
    match command {
        OperatorCommand::Add(args) => add(cx, args).await,
        OperatorCommand::Set(args) => set(cx, args).await,
        OperatorCommand::List => list(cx).await,
        OperatorCommand::Revoke { name } => {
            let operator = cx.connect().await?.revoke_operator(&name).await?;
            tell(cx, &say!("operator {name} is shut out", "操作员 {name} 已吊销"), &operator)
        }
    }
}

async fn add(cx: &Cx, args: OperatorAdd) -> Result<(), Failure> {
    let OperatorAdd { name, role, sites, out } = args;
    if role == Role::Admin && !sites.is_empty() {
        return Err(Failure::usage(said!("an admin has all sites", "管理员可访问全部站点")).remedy(said!(
            "leave --site out, or choose the role operator or viewer",
            "请去掉 --site，或选择角色 operator 或 viewer"
        )));
    }
    let client = cx.connect().await?;
    let (key, request_der) = request()?;
    let place = out.clone();
    let place = blocking(&out, move || NewProfile::begin(&place, &key)).await?;
    let wish = v1::AddOperatorRequest { operator: name.clone(), role: role.into(), sites, request_der };
    let answer = match client.add_operator(wish).await {
        Ok(answer) => answer,
        Err(Lost::No(failure)) => return Err(failure),
        Err(Lost::Maybe(failure)) => {
            return Err(failure.remedy(said!(
                "the name may be taken now: look at `ctl operator list`; when {name} is there, `ctl operator revoke {name}`, \
                 then add it again",
                "该名称可能已被占用：请查看 `ctl operator list`；若已有 {name}，请执行 `ctl operator revoke {name}` 后重新添加"
            )));
        }
    };
    let operator = answer.operator.clone();
    let profile = blocking(&out, move || place.finish(&answer)).await.map_err(|failure| {
        failure.remedy(said!(
            "{name} is let in and has no profile: `ctl operator revoke {name}`, then add it again",
            "{name} 已添加但没有配置文件：请执行 `ctl operator revoke {name}` 后重新添加"
        ))
    })?;
    match cx.out.format {
        Format::Table => {
            cx.out.text(&say!(
                "operator {name} is let in; profile: {path}",
                "操作员 {name} 已添加；配置文件：{path}"; path = profile.display()
            ))?;
            cx.out.note(&say!(
                "next: hand the directory {dir} to {name} over a safe way; its key is in it",
                "接下来：经安全途径将目录 {dir} 交给 {name}；其中含私钥"; dir = out.display()
            ));
            Ok(())
        }
        Format::Json | Format::Ndjson => {
            cx.out.json(&json!({ "operator": operator.as_ref().map(access::operator), "profile": profile }))
        }
    }
}

async fn set(cx: &Cx, args: OperatorSet) -> Result<(), Failure> {
    let OperatorSet { name, role, sites, all_sites } = args;
    if role.is_none() && sites.is_empty() && !all_sites {
        return Err(Failure::usage(said!("nothing is to be changed", "没有要修改的内容"))
            .remedy(said!("give --role, --site or --all-sites", "请给出 --role、--site 或 --all-sites")));
    }
    let wish = v1::SetOperatorRequest {
        operator: name.clone(),
        role: role.unwrap_or(Role::Unspecified).into(),
        change_sites: all_sites || !sites.is_empty(),
        sites,
    };
    let operator = cx.connect().await?.set_operator(wish).await?;
    tell(cx, &access::operator_line(&operator), &operator)
}

async fn list(cx: &Cx) -> Result<(), Failure> {
    let operators = cx.connect().await?.operators().await?;
    match cx.out.format {
        Format::Table => cx.out.text(&access::operators(&operators, cx.out.columns())),
        Format::Json => {
            cx.out.json(&json!({ "operators": operators.iter().map(access::operator).collect::<Vec<_>>() }))
        }
        Format::Ndjson => operators.iter().try_for_each(|operator| cx.out.json(&access::operator(operator))),
    }
}

fn tell(cx: &Cx, text: &str, operator: &v1::Operator) -> Result<(), Failure> {
    match cx.out.format {
        Format::Table => cx.out.text(text),
        Format::Json | Format::Ndjson => cx.out.json(&access::operator(operator)),
    }
}

/// A key, PEM, and its certificate request, DER.
fn request() -> Result<(Secret, Vec<u8>), Failure> {
    let failed = |error: rcgen::Error| {
        Failure::new(Exit::Internal, said!("cannot make a key", "无法生成密钥")).because(error.to_string())
    };
    let key = KeyPair::generate().map_err(failed)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed)?;
    Ok((Secret::new(key.serialize_pem()), request.der().to_vec()))
}

/// A profile directory on its way: under another name until it is whole. One that is not finished goes again.
struct NewProfile {
    dir: PathBuf,
    part: TempDir,
}

impl NewProfile {
    /// The key is on disk before anybody is asked: an answer that comes is never without its key.
    fn begin(dir: &Path, key: &Secret) -> io::Result<Self> {
        if dir.symlink_metadata().is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, word!("it is there already", "它已存在")));
        }
        // Beside its place, so that it can be renamed.
        let mut builder = tempfile::Builder::new();
        let part = builder
            .prefix(".gantry-profile-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent(dir))?;
        write(part.path(), "key.pem", key.expose(), PRIVATE)?;
        Ok(Self { dir: dir.to_owned(), part })
    }

    fn finish(self, answer: &v1::AddOperatorResponse) -> io::Result<PathBuf> {
        let profile = OperatorProfile {
            controller: answer.controller.clone(),
            server_name: answer.server_name.clone(),
            ca_pem_file: "ca.pem".to_owned(),
            cert_pem_file: "cert.pem".to_owned(),
            key_pem_file: "key.pem".to_owned(),
        };
        let text = toml::to_string(&profile).map_err(io::Error::other)?;
        let part = self.part.path();
        write(part, "ca.pem", &answer.ca_pem, PUBLIC)?;
        write(part, "cert.pem", &answer.cert_pem, PUBLIC)?;
        write(part, OPERATOR_PROFILE_FILE, &text, PUBLIC)?;
        File::open(part)?.sync_all()?;
        fs::rename(part, &self.dir)?;
        // It has its own name now, so there is nothing left to be removed.
        let _its_old_name = self.part.keep();
        File::open(parent(&self.dir))?.sync_all()?;
        Ok(self.dir.join(OPERATOR_PROFILE_FILE))
    }
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(dir.join(name))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Disk work has no place among the runtime's threads.
async fn blocking<T: Send + 'static>(
    out: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|error| unwritten(out, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Usage,
        said!("cannot write the profile into {dir}", "无法将配置文件写入 {dir}"; dir = path.display()),
    )
    .because(error.to_string().to_lowercase())
    .remedy(said!(
        "give --out a directory that is not there yet, in a place where you may write",
        "请用 --out 给出一个尚不存在且有写入权限的目录"
    ))
}
