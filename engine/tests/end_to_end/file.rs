//! Files that a server is given.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file that is gone when the test ends.
pub(crate) struct File(PathBuf);

impl File {
    /// A file with this content.
    pub(crate) fn new(content: impl AsRef<[u8]>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let file = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.write(content);
        file
    }

    /// Replaces the content.
    pub(crate) fn write(&self, content: impl AsRef<[u8]>) {
        std::fs::write(&self.0, content).expect("the build directory takes files");
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &str {
        self.0
            .to_str()
            .expect("the build directory has a plain name")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that is left behind in the build directory does no harm.
        drop(std::fs::remove_file(&self.0));
    }
}
