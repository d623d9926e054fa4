//! A small file system that can be filled, where the machine lets us mount one.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted tmpfs. Gone when dropped.
pub struct Tmpfs {
    directory: tempfile::TempDir,
}

impl Tmpfs {
    /// Mounts one of this size; `None` where that is not allowed.
    pub fn mount(kibibytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tidegate-test"]).arg(directory.path());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let mounted = status.is_ok_and(|status| status.success());
        if !mounted {
            println!("no tmpfs can be mounted here; run as root to see this part");
        }
        mounted.then_some(Self { directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes all room that is left, until the file is removed again.
    pub fn fill(&self) -> Ballast {
        let path = self.path().join("ballast");
        let mut file = std::fs::File::create(&path).expect("a file can be made");
        let mut length = 64 << 10;
        while length > 0 {
            if file.write_all(&vec![0; length]).is_err() {
                length /= 2;
            }
        }
        Ballast(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a recorder that a failed test left behind may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

/// A file that is in the way. Removed when dropped.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
