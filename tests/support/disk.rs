//! A disk that is small on purpose.

use std::{path::Path, process::Command};

use tempfile::TempDir;

/// A small file system of its own, unmounted when dropped.
pub struct Tmpfs(TempDir);

impl Tmpfs {
    /// Mounts one (`size=1m`), or says on stderr why the test goes on without it.
    pub fn mount(options: &str) -> Option<Tmpfs> {
        let directory = TempDir::new().unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", options, "tmpfs"], directory.path());
        if !mounted {
            eprintln!("skipped: disk full (this user may not mount a small tmpfs)");
        }
        mounted.then(|| Tmpfs(directory))
    }

    /// Changes its options.
    pub fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], self.path()));
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    Command::new("mount").args(arguments).arg(at).output().is_ok_and(|done| done.status.success())
}
