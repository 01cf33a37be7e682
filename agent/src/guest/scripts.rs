//! Every command that is ever run in the guest. The scripts are POSIX `sh`; what varies reaches them as `$1`, `$2`, …
//!
//! Our files in the working directory: `installer.out` (output), `installer.pid` and `installer.rc` (of the wrapper that
//! runs the installer), the same three of preinstall.sh, and one directory for each start, so that a start whose
//! answer was lost cannot happen twice (L12).

use std::{net::Ipv4Addr, time::Duration};

use super::Command;
use crate::config;

/// Marks the installer's wrapper in the process table, so that a process number that was given away again is not
/// taken for it.
const INSTALLER: &str = "gantry-installer";
/// The same for preinstall.sh.
const PREINSTALL: &str = "gantry-preinstall";
/// Largest resolver file that is read, bytes.
const RESOLV_MAX: usize = 64 << 10;

/// Does nothing: tells whether `sudo` works.
pub(super) fn nothing() -> Command {
    Command::new("check-sudo", ":")
}

/// Prints the MAC address of every interface, one a line.
pub fn mac_addresses(settings: &config::Guest) -> Command {
    Command::new("read-mac-addresses", "cat -- \"$1\"/*/address").arg(&settings.sys_class_net)
}

/// Prints the resolver file, or nothing when there is none.
pub fn read_resolv_conf(settings: &config::Guest) -> Command {
    Command::new("read-resolv-conf", "[ ! -e \"$1\" ] || cat -- \"$1\"")
        .arg(&settings.resolv_conf)
        .root()
        .keep(RESOLV_MAX)
}

/// Writes the resolver file: into a file beside it, then in its place, so that nobody ever reads half of it.
pub fn write_resolv_conf(settings: &config::Guest, servers: &[Ipv4Addr]) -> Command {
    const SCRIPT: &str = r#"
file=$1; shift
umask 022
touch "$file" || exit 1
: >"$file.gantry" || exit 1
for server in "$@"; do printf 'nameserver %s\n' "$server" >>"$file.gantry" || exit 1; done
chmod 644 "$file.gantry" && mv -f "$file.gantry" "$file""#;
    Command::new("write-resolv-conf", SCRIPT)
        .arg(&settings.resolv_conf)
        .args(servers.iter().map(ToString::to_string))
        .root()
}

/// Runs preinstall.sh to its end, leaves its exit status in a file and prints what it said. It neither hears of a lost
/// connection nor writes into one: what it began it ends, and its status is its own.
pub fn preinstall(settings: &config::Guest, limit: Duration) -> Command {
    const SCRIPT: &str = r#"
work=$1; script=$2
mkdir -p "$work" || exit 4
trap '' HUP
rm -f "$work/preinstall.rc"
echo "$$" >"$work/preinstall.pid" || exit 4
sh "$script" </dev/null >"$work/preinstall.out" 2>&1
rc=$?
echo "$rc" >"$work/preinstall.rc"
cat "$work/preinstall.out"
exit "$rc""#;
    Command::new(PREINSTALL, SCRIPT)
        .arg(&settings.work_dir)
        .arg(&settings.preinstall)
        .root()
        .limit(limit)
        .keep(settings.max_output_bytes)
}

/// Prints what preinstall.sh said, after a lost connection.
pub fn preinstall_output(settings: &config::Guest) -> Command {
    Command::new("read-preinstall-output", "cat -- \"$1/preinstall.out\"")
        .arg(&settings.work_dir)
        .root()
        .keep(settings.max_output_bytes)
}

/// Tells whether preinstall.sh runs or has ended, see [`super::Status`].
pub fn preinstall_status(settings: &config::Guest) -> Command {
    Command::new("check-preinstall", STATUS).arg(&settings.work_dir).arg("preinstall").arg(PREINSTALL).root()
}

/// Starts the installer in a session of its own, unless this very start (`token`) has been made before or one runs.
pub fn start_installer(settings: &config::Guest, token: &str) -> Command {
    const SCRIPT: &str = r#"
work=$1; token=$2; word=$3; dir=$4; shift 4
mkdir -p "$work" || exit 4
if read -r pid <"$work/installer.pid" && kill -0 "$pid" && grep -aq "$word" "/proc/$pid/cmdline"; then
  exit 0
fi 2>/dev/null
mkdir "$work/$token" 2>/dev/null || { [ -d "$work/$token" ] && exit 0; echo "cannot write in $work" >&2; exit 4; }
cd "$dir" || exit 3
rm -f "$work/installer.rc" "$work/installer.pid"
setsid nohup sh -c '
work=$1; shift
echo "$$" >"$work/installer.pid" || exit 4
"$@" </dev/null >>"$work/installer.out" 2>&1
echo "$?" >"$work/installer.rc.new"
mv -f "$work/installer.rc.new" "$work/installer.rc"
' "$word" "$work" "$@" </dev/null >/dev/null 2>&1 &"#;
    Command::new("start-installer", SCRIPT)
        .arg(&settings.work_dir)
        .arg(token)
        .arg(INSTALLER)
        .arg(&settings.installer_dir)
        .arg(&settings.installer)
        .args(&settings.installer_args)
        .root()
}

/// Tells whether the installer runs or has ended, and how long its logs are, see [`super::Status`].
pub fn installer_status(settings: &config::Guest) -> Command {
    Command::new("check-installer", STATUS).arg(&settings.work_dir).arg("installer").arg(INSTALLER).root()
}

/// Prints up to `most` bytes of a log file from byte `from` on.
pub fn read_log(path: &str, from: u64, most: u64) -> Command {
    let keep = usize::try_from(most).unwrap_or(usize::MAX);
    Command::new("read-log", "tail -c \"+$2\" -- \"$1\" | head -c \"$3\"")
        .arg(path)
        .arg((from.saturating_add(1)).to_string())
        .arg(most.to_string())
        .root()
        .keep(keep)
}

/// Prints, among other things, the certificate that the service at `address` shows to a program inside the VM (PEM).
pub fn tower_certificate(address: Ipv4Addr, port: u16) -> Command {
    Command::new("read-tower-certificate", "openssl s_client -connect \"$1:$2\" </dev/null 2>/dev/null")
        .arg(address.to_string())
        .arg(port.to_string())
}

/// Free space where our files are, for the hint of a failure.
pub fn free_space(settings: &config::Guest) -> Command {
    Command::new("check-free-space", "df -P -- \"$1\" / | tail -n +2").arg(&settings.work_dir)
}

/// What [`super::Status::parse`] reads. The process is asked before its exit status: one that ends between the two has
/// left its status, and is not taken for one that was killed.
const STATUS: &str = r#"
work=$1; name=$2; word=$3
read -r pid <"$work/$name.pid" && echo "pid=$pid"
[ -n "$pid" ] && kill -0 "$pid" && grep -aq "$word" "/proc/$pid/cmdline" && echo alive=1
read -r rc <"$work/$name.rc" && echo "rc=$rc"
for log in installer.out nohup.out; do
  size=$(stat -c '%s %i' -- "$work/$log") && echo "$log=$size"
done
exit 0"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{LogFile, Status};

    struct Box {
        dir: tempfile::TempDir,
        settings: config::Guest,
    }

    impl Box {
        fn new(installer: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name).display().to_string();
            let settings = config::Guest {
                work_dir: path("work dir"),
                installer_dir: path("inst"),
                installer: "./run".to_owned(),
                installer_args: vec!["deploy".to_owned(), "it's".to_owned()],
                resolv_conf: path("resolv.conf"),
                preinstall: path("pre.sh"),
                ..config::Guest::default()
            };
            std::fs::create_dir(dir.path().join("inst")).unwrap();
            std::fs::write(dir.path().join("inst/installer.sh"), installer).unwrap();
            let run = dir.path().join("inst/run");
            std::fs::write(&run, "#!/bin/sh\nexec sh ./installer.sh \"$@\"\n").unwrap();
            std::fs::set_permissions(run, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            Self { dir, settings }
        }

        fn run(&self, command: &Command) -> std::process::Output {
            std::process::Command::new("/bin/sh").arg("-c").arg(command.text("")).output().unwrap()
        }

        fn status(&self) -> Status {
            Status::parse(&self.run(&installer_status(&self.settings)).stdout)
        }

        fn wait(&self, done: impl Fn(&Status) -> bool) -> Status {
            for _ in 0..500 {
                let status = self.status();
                if done(&status) {
                    return status;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            panic!("never came true: {:?}", self.status());
        }
    }

    #[test]
    fn the_installer_runs_detached_in_its_directory_and_leaves_pid_output_and_status() {
        let place = Box::new("echo \"in $(basename \"$PWD\") with $*\"; echo bad >&2; exit 7");
        assert_eq!(place.status(), Status::default());
        assert!(place.run(&start_installer(&place.settings, "start.1")).status.success());
        let status = place.wait(|status| status.rc.is_some() && !status.alive);
        assert_eq!(status.rc, Some(7));
        assert!(status.pid.is_some());
        let log = std::fs::read_to_string(format!("{}/installer.out", place.settings.work_dir)).unwrap();
        assert_eq!(log, "in inst with deploy it's\nbad\n");
        assert_eq!(status.out.map(|log| log.size), Some(log.len() as u64));
        assert_eq!(status.nohup, None::<LogFile>, "nohup.out needs a terminal");
    }

    #[test]
    fn the_same_start_never_happens_twice_and_none_beside_one_that_runs() {
        let place = Box::new("echo run >>../runs; read -r line <../go");
        let go = place.dir.path().join("go");
        assert!(std::process::Command::new("mkfifo").arg(&go).status().unwrap().success());
        let start = |token: &str| assert!(place.run(&start_installer(&place.settings, token)).status.success());
        let runs = || std::fs::read_to_string(place.dir.path().join("runs")).unwrap_or_default().lines().count();
        start("start.1");
        place.wait(|status| status.alive && runs() == 1);
        start("start.1");
        start("start.2");
        std::fs::write(&go, "go\n").unwrap();
        place.wait(|status| status.rc == Some(0) && !status.alive);
        start("start.1");
        assert_eq!(runs(), 1);
        start("start.2");
        place.wait(|status| status.alive && runs() == 2);
        std::fs::write(&go, "go\n").unwrap();
        place.wait(|status| status.rc == Some(0) && !status.alive);
    }

    #[test]
    fn an_installer_that_ends_during_the_look_is_never_seen_gone_without_its_status() {
        let place = Box::new("read -r line <../go; exit 7");
        let go = place.dir.path().join("go");
        assert!(std::process::Command::new("mkfifo").arg(&go).status().unwrap().success());
        assert!(place.run(&start_installer(&place.settings, "start.1")).status.success());
        place.wait(|status| status.alive);
        // The look's own `grep` lets the installer end and waits for that before it looks.
        let bin = place.dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let grep = "#!/bin/sh\necho go >\"$GO\"\nwhile [ ! -e \"$RC\" ]; do :; done\nPATH=$OLD exec grep \"$@\"\n";
        std::fs::write(bin.join("grep"), grep).unwrap();
        std::fs::set_permissions(bin.join("grep"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let old = std::env::var("PATH").unwrap();
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", &installer_status(&place.settings).text("")])
            .envs([("PATH", format!("{}:{old}", bin.display())), ("OLD", old)])
            .envs([("GO", go.display().to_string()), ("RC", format!("{}/installer.rc", place.settings.work_dir))])
            .output()
            .unwrap();
        let status = Status::parse(&output.stdout);
        assert_eq!(status.rc, Some(7), "{status:?}");
        place.wait(|status| status.rc == Some(7) && !status.alive);
    }

    #[test]
    fn a_process_number_that_was_given_away_again_is_not_the_installer() {
        let place = Box::new("");
        std::fs::create_dir(&place.settings.work_dir).unwrap();
        std::fs::write(format!("{}/installer.pid", place.settings.work_dir), format!("{}\n", std::process::id()))
            .unwrap();
        let status = place.status();
        assert_eq!((status.pid, status.alive), (Some(std::process::id()), false));
    }

    #[test]
    fn the_resolver_file_is_made_and_replaced_as_a_whole() {
        let place = Box::new("");
        assert!(place.run(&read_resolv_conf(&place.settings)).stdout.is_empty());
        let servers = [Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)];
        for _ in 0..2 {
            assert!(place.run(&write_resolv_conf(&place.settings, &servers)).status.success());
            let read = place.run(&read_resolv_conf(&place.settings));
            assert_eq!(String::from_utf8_lossy(&read.stdout), "nameserver 192.0.2.53\nnameserver 192.0.2.54\n");
        }
        assert!(!place.dir.path().join("resolv.conf.gantry").exists());
    }

    #[test]
    fn preinstall_tells_its_status_twice() {
        let place = Box::new("");
        std::fs::write(&place.settings.preinstall, "echo preparing; exit 5\n").unwrap();
        let output = place.run(&preinstall(&place.settings, Duration::from_secs(9)));
        assert_eq!((output.status.code(), output.stdout), (Some(5), b"preparing\n".to_vec()));
        let status = Status::parse(&place.run(&preinstall_status(&place.settings)).stdout);
        assert_eq!((status.rc, status.alive), (Some(5), false));
        assert_eq!(place.run(&preinstall_output(&place.settings)).stdout, b"preparing\n");
    }

    #[test]
    fn a_log_is_read_from_any_byte_on() {
        let place = Box::new("");
        let log = place.dir.path().join("a log").display().to_string();
        std::fs::write(&log, "0123456789").unwrap();
        for (from, most, expected) in [(0, 4, "0123"), (4, 100, "456789"), (10, 5, ""), (99, 5, "")] {
            let output = place.run(&read_log(&log, from, most));
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
    }
}
