//! What the marker files of the installer say. Pure.

/// State of the installer, or of preinstall.sh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Process number of our wrapper.
    pub pid: Option<u32>,
    /// Whether that process lives.
    pub alive: bool,
    /// Its exit status, once it has ended by itself.
    pub rc: Option<i64>,
    /// `installer.out`, our own log.
    pub out: Option<LogFile>,
    /// `nohup.out`, of an installation started by hand (C7).
    pub nohup: Option<LogFile>,
}

/// A log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Bytes.
    pub size: u64,
    /// Tells whether it is still the same file.
    pub inode: u64,
}

impl Status {
    /// Reads what the probe prints: `key=value` lines in any order; anything else is passed over.
    pub fn parse(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let mut status = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim();
            match key {
                "pid" => status.pid = value.parse().ok(),
                "alive" => status.alive = value == "1",
                "rc" => status.rc = value.parse().ok(),
                "installer.out" => status.out = log_file(value),
                "nohup.out" => status.nohup = log_file(value),
                _ => {}
            }
        }
        status
    }

    /// Whether it has ended: a status is there, or there was a process and it is gone.
    pub fn has_ended(&self) -> bool {
        !self.alive && (self.rc.is_some() || self.pid.is_some())
    }

    /// Whether there is any sign that it was ever started.
    pub fn is_known(&self) -> bool {
        self.pid.is_some() || self.rc.is_some()
    }
}

fn log_file(value: &str) -> Option<LogFile> {
    let (size, inode) = value.split_once(' ')?;
    Some(LogFile { size: size.parse().ok()?, inode: inode.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_is_there_and_passes_over_the_rest() {
        let status = Status::parse(b"noise\nalive=1\npid=12\r\ninstaller.out=55 7\nnohup.out=oops\nx=y=z\n");
        let out = Some(LogFile { size: 55, inode: 7 });
        assert_eq!(status, Status { pid: Some(12), alive: true, rc: None, out, nohup: None });
        assert!(status.is_known() && !status.has_ended());
        assert!(Status::parse(b"rc=137\n").has_ended());
        assert!(!Status::parse(b"").has_ended());
    }

    proptest! {
        #[test]
        fn no_output_makes_it_stumble(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Status::parse(&bytes);
        }
    }
}
