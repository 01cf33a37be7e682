//! The ISO file: there, whole, with guest tools, and with the hashes that are expected (1.1 to 1.3).

use gantry_proto::{Failure, error::causes};

use super::{
    super::{
        iso_hash,
        story::{blocking, story, story_of},
    },
    Report,
};
use crate::{
    facts::{Facts, IsoFact},
    iso::{self, Contents, Found, HashError, Inventory, IsoError},
    step::{StepCx, StepError},
};

/// An ISO that can be used as far as name and content tell.
pub(super) struct Usable {
    found: Found,
    guest_tools: Option<bool>,
}

impl Usable {
    /// The architecture in its name.
    pub(super) fn arch(&self) -> &str {
        &self.found.name.arch
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.found.identity.size
    }
}

/// 1.1 and 1.2. `None`: there is nothing to use, and that has been told.
pub(super) async fn choose(report: &mut Report<'_>) -> Result<Option<Usable>, StepError> {
    let cx = report.cx;
    let (settings, choice) = (cx.settings.clone(), cx.plan.deployment.iso.clone());
    let chosen = blocking(move || iso::choose(&settings, &choice)).await.map_err(StepError::Journal)?;
    let found = match chosen {
        Ok(found) => found,
        Err(error) => {
            report.fail("iso", &cx.settings.iso_dir.display().to_string(), absent(cx, &error)).await?;
            return Ok(None);
        }
    };
    let looked = found.clone();
    let contents = blocking(move || iso::contents(&looked)).await.map_err(StepError::Journal)?;
    let name = found.file_name.clone();
    let contents = match contents {
        Ok(contents) => contents,
        Err(error) => {
            let remedy = "copy the ISO into the ISO directory again and compare its checksum";
            let failure = story_of("iso_not_iso9660", &format!("reading the ISO {name}"), &error, remedy);
            report.fail("iso", &name, failure).await?;
            return Ok(None);
        }
    };
    report.ok("iso", &name, format!("the ISO {name} with {} bytes is used", found.identity.size)).await?;
    if contents.missing_bytes > 0 {
        let message = format!("the ISO {name} seems to be cut short: {} bytes are missing", contents.missing_bytes);
        report.warn("iso", &name, message).await?;
    }
    version(report, &found).await?;
    guest_tools(report, &name, contents).await?;
    Ok(Some(Usable { found, guest_tools: contents.guest_tools }))
}

/// 1.3: both hashes of the whole file, in one read; compared with what the plan expects. Puts the file into the facts.
pub(super) async fn hashes(report: &mut Report<'_>, facts: &mut Facts, usable: Usable) -> Result<(), StepError> {
    let (cx, Usable { found, guest_tools }) = (report.cx, usable);
    let name = found.file_name.clone();
    let wanted = &cx.plan.deployment.iso;
    if cx.log.only_looks() && wanted.sha256.is_none() && wanted.md5.is_none() {
        // Nothing here depends on them: a whole ISO is read only for who goes on to send it.
        let (inventory, known) = (Inventory::new(&cx.settings), found.clone());
        let known = blocking(move || inventory.known(&known)).await.map_err(StepError::Journal)?;
        facts.iso = Some(IsoFact::of(&found, known, guest_tools));
        return Ok(());
    }
    let digests = match iso_hash::hash(cx, &found).await {
        Ok(digests) => digests,
        Err(HashError::Cancelled) => return Err(cx.log.why_stopped()),
        Err(error) => {
            let remedy = "leave the file alone while a job runs, and check the disk of the bastion";
            let failure = story_of("iso_unreadable", &format!("hashing the ISO {name}"), &error, remedy);
            return report.fail("iso_hash", &name, failure).await;
        }
    };
    let pairs = [("SHA-256", &wanted.sha256, &digests.sha256), ("MD5", &wanted.md5, &digests.md5)];
    let mut right = true;
    for (kind, wanted, got) in pairs {
        let Some(wanted) = wanted.as_ref().filter(|wanted| !wanted.eq_ignore_ascii_case(got)) else { continue };
        right = false;
        let message = format!("the {kind} of the ISO {name} is {got}, expected is {wanted}");
        let remedy = "copy the right ISO into the ISO directory, or correct the expected checksum";
        report.fail("iso_hash", &name, story("iso_hash_mismatch", message, remedy)).await?;
    }
    if right {
        report.ok("iso_hash", &name, format!("the ISO {name} has the SHA-256 {}", digests.sha256)).await?;
    }
    facts.iso = Some(IsoFact::of(&found, Some(digests), guest_tools));
    cx.save(facts).await
}

/// The workbook speaks of one version, the file of another: the file is what gets installed.
async fn version(report: &Report<'_>, found: &Found) -> Result<(), StepError> {
    let Some(wanted) = &report.cx.plan.cloudtower.version else { return Ok(()) };
    if found.name.is_version(wanted) {
        return Ok(());
    }
    let message = format!(
        "the workbook plans CloudTower {wanted}, the ISO {} is of version {}; the ISO counts",
        found.file_name, found.name.version
    );
    report.warn("iso_version", &found.file_name, message).await
}

async fn guest_tools(report: &mut Report<'_>, name: &str, contents: Contents) -> Result<(), StepError> {
    let required = report.cx.plan.deployment.require_guest_tools_in_iso;
    let problem = match contents.guest_tools {
        Some(true) => return report.ok("guest_tools", name, "the guest tools are in the ISO").await,
        Some(false) => {
            format!("the ISO {name} is without guest tools (no SMTX_VM_TOOLS_INSTALL.sh in its root directory)")
        }
        None => format!("the root directory of the ISO {name} cannot be read, so the guest tools cannot be found"),
    };
    if !required {
        return report.warn("guest_tools", name, format!("{problem}; the guest agent may never run")).await;
    }
    let remedy =
        "use an ISO that was prepared with the guest tools, or set deployment.require_guest_tools_in_iso to false";
    report.fail("guest_tools", name, story("iso_without_guest_tools", problem, remedy)).await
}

fn absent(cx: &StepCx, error: &IsoError) -> Failure {
    let code = match error {
        IsoError::None(_) | IsoError::Missing(_) => "iso_missing",
        IsoError::Empty(_) => "iso_empty",
        IsoError::TooSmall { .. } => "iso_too_small",
        IsoError::BadName(_) | IsoError::Pattern(_) | IsoError::NotAFile(_) => "iso_bad_name",
        IsoError::Io { .. } => "iso_unreadable",
    };
    let remedy = format!(
        "copy cloudtower-<version>.<os>.<arch>.iso to {} on the bastion, or name another one (deployment.iso.file_name)",
        cx.settings.iso_dir.display()
    );
    let causes = causes(error);
    Failure { causes: causes.clone(), ..story(code, causes.join(": "), remedy) }
}
