//! Output that appears whole or not at all: written beside its target under a recognisable name, synced, renamed.
//!
//! The temporary file of `model.pt` is `.model.pt.ckpt-tmp-XXXXXX`. It is removed on errors and on SIGHUP, SIGINT and
//! SIGTERM; what a kill leaves is harmless, and the next run with the same target removes it. The old target stays as it
//! is until the rename.

mod output;
mod target;
mod temporary;

pub(crate) use output::Output;
pub(super) use target::directory;
pub use target::{Memory, Target};
pub(crate) use target::{is_same_file, is_stdout};
pub(super) use temporary::{held, sync_directory};

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::io::Write;
    use std::path::Path;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.pt");
        let mut output = Target::new(&path, false, None).unwrap().create().unwrap();
        output.write_all(b"abc").unwrap();
        assert!(names(dir.path())[0].starts_with(".out.pt.ckpt-tmp-"), "{:?}", names(dir.path()));
        drop(output);
        assert!(names(dir.path()).is_empty());
        let mut output = Target::new(&path, false, None).unwrap().create().unwrap();
        output.write_all(b"abc").unwrap();
        output.commit().unwrap();
        assert_eq!(names(dir.path()), ["out.pt"]);
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn an_existing_target_needs_force_even_when_it_appears_late() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.pt");
        let output = Target::new(&path, false, None).unwrap().create().unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(output.commit().unwrap_err().to_string().contains("force replaces it"));
        assert!(Target::new(&path, false, None).unwrap_err().to_string().contains("force replaces it"));
        assert!(Target::new(&path, false, Some(&path)).unwrap_err().to_string().contains("the input itself"));
        let mut output = Target::new(&path, true, Some(&path)).unwrap().create().unwrap();
        output.write_all(b"ours").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
    }

    #[cfg(unix)]
    #[test]
    fn modes_stay_and_links_are_followed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        Target::new(&link, true, None).unwrap().create().unwrap().commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        // a new file gets what the umask says, as any other new file does
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        Target::new(&ours, false, None).unwrap().create().unwrap().commit().unwrap();
        fs::write(&theirs, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&theirs));
    }
}
