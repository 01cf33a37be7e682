//! `agent iso push`: brings an ISO to a cluster ahead of the night of the change.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use gantry_proto::{Body, Level, Redactor, Secret, plan::UploadParams, result::UploadResult};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Failure, Form, Place, interruptible, print, remarks, warn};
use crate::{
    config::{CertificatePolicy, Settings},
    facts::{Facts, ImageFact, IsoFact},
    iso,
    joblog::JobLog,
    journal::EventReader,
    push::{Push as Work, PushEnd, PushError, Wish},
};

pub(super) const HELP: &str = "\
It is the upload of a deployment: what is on the cluster already is found and not sent again; after a kill the same \
command goes on where it was, and loses what was in flight. A deployment finds the image by its name, size and MD5. \
Without --fingerprint and --accept-any-cert the certificate is recorded at first sight, in --state, and must be the same \
one from then on. The hashes of the file are those of the inventory (`agent iso scan`); without them it is read \
beside the sending.

Exit code 0: the image is complete on the cluster; 1: it is not, with the reason; 2: it cannot be done like this; \
130: stopped, the same command goes on.

Examples:
  agent iso push --fisheye https://192.0.2.10 --user root --password-file pw --iso cloudtower-v4.6.2.oe2003.x86_64.iso
  agent iso push --fisheye https://192.0.2.10 --user root --password-file - --iso FILE --in-flight 4 -o json < pw";

/// How often the line on a terminal is drawn, and a plain line written.
const DRAWN: Duration = Duration::from_millis(200);
const WRITTEN: Duration = Duration::from_secs(5);
/// The longest password, bytes.
const PASSWORD_MAX: u64 = 4 << 10;
/// Events that are read at once.
const PAGE: usize = 100;

/// Its arguments.
#[derive(Debug, Args)]
pub struct Push {
    /// The cluster's Fisheye; `http://` only for this machine itself.
    #[arg(long, value_name = "URL")]
    fisheye: String,
    /// Its user.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// File with the password in its first line; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The ISO file.
    #[arg(long, value_name = "FILE")]
    iso: PathBuf,
    /// SHA-256 of the certificate, hexadecimal.
    #[arg(long, value_name = "HEX", conflicts_with = "accept_any_cert")]
    fingerprint: Option<String>,
    /// Take any certificate: whoever is in between sees the password.
    #[arg(long)]
    accept_any_cert: bool,
    /// Chunks in flight, 1 to 16; `auto`: found by itself [default: as the settings say].
    #[arg(long, value_name = "N", value_parser = in_flight)]
    in_flight: Option<u32>,
    #[command(flatten)]
    place: Place,
    /// Form of the result on stdout.
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    output: Form,
}

fn in_flight(text: &str) -> Result<u32, String> {
    match text.parse() {
        _ if text.eq_ignore_ascii_case("auto") => Ok(0),
        Ok(count @ 1..=16) => Ok(count),
        _ => Err("it must be a number from 1 to 16, or auto".to_owned()),
    }
}

/// The image, and how it came there.
struct Pushed {
    iso: IsoFact,
    image: ImageFact,
    /// `None`: nothing was sent.
    upload: Option<UploadResult>,
    seconds: f64,
}

impl Push {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut settings = self.place.load()?;
        let host = self.aim(&mut settings)?;
        let found = iso::find(&self.iso)?;
        let looked = iso::contents(&found);
        let warnings = remarks(found.identity.size, &looked, &settings);
        looked.map_err(|error| Failure::Volume(found.path.clone(), error))?;
        warnings.iter().for_each(|message| warn(message));
        if self.accept_any_cert {
            warn("any certificate is taken: whoever is between here and the cluster sees the password");
        }
        let password = password(&self.password_file)?;
        let cancel = CancellationToken::new();
        let wish = Wish { host, user: self.user.clone(), password, iso: found, upload: UploadParams::default() };
        let stop = cancel.clone();
        let work = tokio::task::spawn_blocking(move || Work::prepare(wish, settings, Redactor::new(), stop)).await;
        let work = work.map_err(io::Error::other)?.map_err(|error| match error {
            PushError::Busy(dir) => Failure::Busy(dir),
            PushError::Journal(dir, error) => Failure::Journal(dir, error),
            PushError::Disk(error) => Failure::Io(error),
        })?;
        let log = work.log();
        let seen = log.journal().events_after(log.journal().tail().last_seq);
        let watched = Box::pin(watch(&log, seen, interruptible(&cancel, Box::pin(work.run())))).await?;
        let ended = watched.map_err(|error| match error {
            Failure::Interrupted => Failure::Stopped,
            other => other,
        })??;
        match ended {
            PushEnd::Stopped => Err(Failure::Stopped),
            PushEnd::Failed(failure) => Err(Failure::Failed { message: failure.message, remedy: failure.remedy }),
            PushEnd::Done(facts) => {
                let Facts { iso, image, upload, .. } = *facts;
                let (iso, image) = (iso.unwrap_or_default(), image.unwrap_or_default());
                let pushed = Pushed { iso, image, upload, seconds: begun.elapsed().as_secs_f64() };
                Ok(print(&match self.output {
                    Form::Text => pushed.text(),
                    Form::Json => pushed.json(),
                })?)
            }
        }
    }

    /// The settings for this cluster; gives its host.
    fn aim(&self, settings: &mut Settings) -> Result<String, Failure> {
        let usage = |what: &str| Failure::Usage(format!("{what}: --fisheye wants an address like https://192.0.2.10"));
        let url: http::Uri = self.fisheye.parse().map_err(|_| usage("no URL"))?;
        let host = url.host().filter(|host| !host.is_empty()).ok_or_else(|| usage("no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !url.path().trim_matches('/').is_empty() || url.query().is_some() || self.fisheye.contains('@') {
            return Err(usage("only scheme, host and port are meant"));
        }
        let (scheme, port) = match url.scheme_str() {
            Some("https") => ("https", 443),
            Some("http") if is_loopback(&host) => ("http", 80),
            Some("http") => {
                return Err(usage("http:// would send the password in clear, and is for this machine only"));
            }
            _ => return Err(usage("neither https:// nor http://")),
        };
        settings.fisheye.scheme = scheme.to_owned();
        settings.fisheye.port = url.port_u16().unwrap_or(port);
        if let Some(fingerprint) = &self.fingerprint {
            let digits: String = fingerprint.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
            if digits.len() != 64 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err(Failure::Usage("--fingerprint wants the 64 hexadecimal digits of a SHA-256".to_owned()));
            }
            settings.fisheye.certificate = CertificatePolicy::Pinned;
            settings.fisheye.fingerprint = Some(digits);
        } else if self.accept_any_cert {
            settings.fisheye.certificate = CertificatePolicy::AcceptAny;
        }
        if let Some(count) = self.in_flight {
            settings.upload.in_flight = count;
        }
        Ok(host)
    }
}

/// Tells of the upload while it is done: a line that is drawn again on a terminal, else a plain line now and then;
/// warnings as they come.
async fn watch<T>(log: &JobLog, mut seen: EventReader, work: impl Future<Output = T>) -> io::Result<T> {
    let terminal = io::stderr().is_terminal();
    let mut work = std::pin::pin!(work);
    let mut tick = interval(if terminal { DRAWN } else { WRITTEN });
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    let samples = log.samples();
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => {
                tell(&mut seen, terminal).await?;
                if let Some(sample) = samples.borrow().as_ref() {
                    let line = &sample.text;
                    let _ = if terminal { write!(io::stderr(), "\r\x1b[K{line}") } else { writeln!(io::stderr(), "{line}") };
                }
            }
        }
    };
    tell(&mut seen, terminal).await?;
    if terminal {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    Ok(done)
}

/// What was worth telling since.
async fn tell(seen: &mut EventReader, terminal: bool) -> io::Result<()> {
    while seen.has_more() {
        for event in seen.page(PAGE, 1 << 20).await? {
            if let Body::Note { level: Level::Warning | Level::Error, message, .. } = event.body {
                if terminal {
                    let _ = write!(io::stderr(), "\r\x1b[K");
                }
                warn(&message);
            }
        }
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The first line of the file, or of stdin.
fn password(path: &Path) -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        io::stdin().lock().take(PASSWORD_MAX + 1).read_to_string(&mut text)?;
    } else {
        let file = File::open(path)
            .map_err(|error| Failure::Usage(format!("the password file {} cannot be read: {error}", path.display())))?;
        file.take(PASSWORD_MAX + 1).read_to_string(&mut text)?;
    }
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || text.len() as u64 > PASSWORD_MAX {
        return Err(Failure::Usage("the password file holds no password in its first line".to_owned()));
    }
    Ok(Secret::new(line))
}

impl Pushed {
    fn text(&self) -> String {
        let Self { iso, image, upload, seconds } = self;
        let how = match upload {
            None => "found on the cluster: nothing was sent".to_owned(),
            Some(upload) => format!(
                "{} bytes in {:.1} s, {:.0} MiB/s, at most {} in flight, {} bytes sent again",
                upload.sent_bytes,
                upload.seconds,
                upload.sent_bytes as f64 / f64::from(1 << 20) / upload.seconds.max(1e-3),
                upload.max_in_flight,
                upload.resent_bytes
            ),
        };
        format!(
            "image    {}\nname     {}\nsize     {} bytes\nsha256   {}\nmd5      {}\nsent     {how}\ntook     {seconds:.1} s\n",
            image.image_uuid, image.name, iso.size, iso.sha256, iso.md5
        )
    }

    fn json(&self) -> String {
        let Self { iso, image, upload, seconds } = self;
        let sent = upload.clone().unwrap_or_default();
        let document = json!({
            "image_uuid": image.image_uuid,
            "zbs_volume_id": image.zbs_volume_id,
            "bytes": iso.size,
            "seconds": if upload.is_some() { sent.seconds } else { *seconds },
            "total_seconds": (seconds * 1000.0).round() / 1000.0,
            "chunks": image.chunks,
            "sent_bytes": sent.sent_bytes,
            "resent_bytes": sent.resent_bytes,
            "max_in_flight": sent.max_in_flight,
            "sha256": iso.sha256,
            "md5": (!iso.md5.is_empty()).then_some(&iso.md5),
            "reused": upload.is_none(),
            "times": sent.times,
        });
        format!("{document:#}\n")
    }
}
