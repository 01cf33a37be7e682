//! Turns the absolute paths of a guest command into paths of its private tree, so that a command never touches the
//! host's files. Textual: a path that a command builds at run time is not seen.

use std::path::Path;

/// Directories that belong to the guest. Everything else (`/dev`, `/proc`, `/usr/bin`) is the host's and only read.
const OWNED: &[&str] = &[
    "/etc",
    "/home",
    "/root",
    "/tmp",
    "/opt",
    "/var",
    "/run",
    "/srv",
    "/mnt",
    "/boot",
    "/usr/share/smartx",
    "/usr/local",
    "/sys/class/net",
];
/// Where programs lie on a real system; those with a stub are the guest's.
const PROGRAM_DIRECTORIES: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Rewrites a command line for the private tree `root`; `stubs` are the programs in `<root>/bin`.
pub(super) fn command(text: &str, root: &Path, stubs: &[&str]) -> String {
    let root = root.to_string_lossy();
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(slash) = rest.find('/') {
        out.push_str(&rest[..slash]);
        rest = &rest[slash..];
        let starts_path = !out.chars().next_back().is_some_and(continues_path);
        let known = if starts_path { target(rest, &root, stubs) } else { None };
        let (taken, replacement) = known.unwrap_or_else(|| (1, "/".to_owned()));
        out.push_str(&replacement);
        rest = &rest[taken..];
    }
    out + rest
}

/// The same as a script for `sed -E`, for scripts that arrive as files or on standard input.
pub(super) fn sed_script(root: &Path, stubs: &[&str]) -> String {
    let root = root.to_string_lossy();
    let mut script = format!("s#{root}#\u{1}#g\n");
    let before = "(^|[^A-Za-z0-9_./~}\u{1}-])";
    let after = "($|[^A-Za-z0-9_.-])";
    let mut rule = |from: &str, to: &str| {
        // Twice, since two neighbours may share the character between them.
        for _ in 0..2 {
            script.push_str(&format!("s#{before}{from}{after}#\\1\u{1}{to}\\2#g\n"));
        }
    };
    for owned in OWNED {
        rule(owned, owned);
    }
    for directory in PROGRAM_DIRECTORIES {
        for stub in stubs {
            rule(&format!("{directory}/{stub}"), &format!("/bin/{stub}"));
        }
    }
    script.push_str(&format!("s#\u{1}#{root}#g\n"));
    script
}

/// What the path at the start of `rest` becomes: bytes taken and replacement.
fn target(rest: &str, root: &str, stubs: &[&str]) -> Option<(usize, String)> {
    if rest.starts_with(root) {
        return Some((root.len(), root.to_owned()));
    }
    let ends = |length: usize| !rest[length..].chars().next().is_some_and(|c| c != '/' && continues_path(c));
    if let Some(owned) = OWNED.iter().find(|owned| rest.starts_with(**owned) && ends(owned.len())) {
        return Some((owned.len(), format!("{root}{owned}")));
    }
    for directory in PROGRAM_DIRECTORIES {
        let Some(name) = rest.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let length = name.find(|c: char| !continues_path(c) || c == '/').unwrap_or(name.len());
        if stubs.contains(&&name[..length]) {
            return Some((directory.len() + 1 + length, format!("{root}/bin/{}", &name[..length])));
        }
    }
    None
}

fn continues_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '~' | '}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[(&str, &str)] = &[
        ("cat /etc/resolv.conf", "cat /G/etc/resolv.conf"),
        ("cat </etc/x>/var/log/y", "cat </G/etc/x>/G/var/log/y"),
        ("sh -c 'cd /usr/share/smartx/tower && ls /home'", "sh -c 'cd /G/usr/share/smartx/tower && ls /G/home'"),
        ("cat /sys/class/net/*/address", "cat /G/sys/class/net/*/address"),
        ("echo x >/dev/null 2>&1; ls /proc/1", "echo x >/dev/null 2>&1; ls /proc/1"),
        ("ls /etcd /home2 ./etc/x a/etc/x", "ls /etcd /home2 ./etc/x a/etc/x"),
        ("/usr/bin/sudo -n /bin/cat /bin/sudoku", "/G/bin/sudo -n /bin/cat /bin/sudoku"),
        ("ls /G/etc/x", "ls /G/etc/x"),
        ("PATH=/opt/a:/opt/b x", "PATH=/G/opt/a:/G/opt/b x"),
        ("echo 中文 /etc/文件", "echo 中文 /G/etc/文件"),
        ("rm -f /tmp/a;mv /tmp/b /etc", "rm -f /G/tmp/a;mv /G/tmp/b /G/etc"),
    ];

    #[test]
    fn guest_paths_go_into_the_tree_and_others_stay() {
        for (text, expected) in CASES {
            assert_eq!(command(text, Path::new("/G"), &["sudo"]), *expected);
            assert_eq!(command(expected, Path::new("/G"), &["sudo"]), *expected, "twice is once");
        }
    }

    #[test]
    fn the_sed_script_does_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let (rules, input) = (directory.path().join("rules"), directory.path().join("input"));
        std::fs::write(&rules, sed_script(Path::new("/G"), &["sudo"])).expect("written");
        for (text, expected) in CASES {
            std::fs::write(&input, text).expect("written");
            let output = std::process::Command::new("sed").args(["-E", "-f"]).arg(&rules).arg(&input).output();
            let output = String::from_utf8(output.expect("sed runs").stdout).expect("text");
            assert_eq!(output, *expected);
        }
    }
}
