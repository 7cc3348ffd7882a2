//! Before the engine opens its files: are they as an ordinary crash leaves
//! them? Then what was being written is cut off, and the engine, told to be strict, has nothing to
//! complain of. Else the bad part is set aside, for whoever wants to look at it, and
//! the log is called damaged.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::scan::{End, scan};

/// Where files go that are of no use any more; of the last damage only.
pub(super) const ASIDE: &str = "damaged";
/// The engine's two sorts of files: what was written, and what it wrote again
/// because newer files were wanted gone.
const SUFFIXES: [&str; 2] = [WRITTEN, ".rewrite"];
const WRITTEN: &str = ".raftlog";
/// Digits of a file's number.
const NUMBER_WIDTH: usize = 16;

/// What must be done before the engine can open its files.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Ordinary leftovers of a crash: the file, and where it ends from now on. None: it goes.
    trims: Vec<(PathBuf, Option<usize>)>,
    damage: Option<Damage>,
}

/// Acknowledged entries may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where and what.
    pub why: String,
    /// The file, and up to where it is of use. None: nothing of the log is.
    cut: Option<(PathBuf, usize)>,
}

/// Whether there are files of the engine.
pub(super) fn has_files(directory: &Path) -> Result<bool, LogError> {
    for suffix in SUFFIXES {
        if !numbered(directory, suffix)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks at the files; changes nothing. `must_exist`: something was written before.
pub(super) fn inspect(directory: &Path, must_exist: bool) -> Result<Plan, LogError> {
    let mut plan = Plan::default();
    if must_exist && numbered(directory, WRITTEN)?.is_empty() {
        plan.damage("its files are gone".into(), None);
    }
    for suffix in SUFFIXES {
        let files = numbered(directory, suffix)?;
        let hole = files.windows(2).find_map(|pair| match pair {
            [(one, _), (next, path)] if one + 1 != *next => Some(path),
            _ => None,
        });
        if let Some(path) = hole {
            plan.damage(format!("the file before {} is gone", path.display()), None);
        }
        // Only the newest was being written; a crash while it was made concerns the one before as well.
        for (number, path) in files.into_iter().rev() {
            let bytes = fs::read(&path).map_err(|error| LogError::io(path.clone(), error))?;
            match scan(&bytes, number) {
                End::Unborn => {
                    plan.trims.push((path, None));
                    continue;
                }
                // Also one that is full: after a kill what was written last need not be
                // on the disk, and it is taken for durable from now on.
                End::At(end) => plan.trims.push((path, Some(end))),
                End::Damaged { good, why } => {
                    let place = format!("{}, byte {good}: {why}", path.display());
                    let keep = good > 0 && suffix == WRITTEN;
                    plan.damage(place, keep.then_some((path, good)));
                }
            }
            break;
        }
    }
    Ok(plan)
}

impl Plan {
    fn damage(&mut self, why: String, cut: Option<(PathBuf, usize)>) {
        self.damage = Some(match self.damage.take() {
            Some(first) => Damage {
                why: format!("{}; {why}", first.why),
                cut: None,
            },
            None => Damage { why, cut },
        });
    }

    /// What is wrong. To be remembered durably before [`Plan::carry_out`].
    pub fn why(&self) -> Option<&str> {
        self.damage.as_ref().map(|damage| damage.why.as_str())
    }

    /// Leaves files that the engine can open.
    pub fn carry_out(self, directory: &Path) -> Result<(), LogError> {
        match self.damage.map(|damage| damage.cut) {
            Some(None) => return set_all_aside(directory),
            Some(Some((path, good))) => {
                let aside = empty_aside(directory)?;
                let copy = path.file_name().map(|name| aside.join(name));
                let copied = copy.map_or(Ok(0), |copy| fs::copy(&path, copy));
                copied.map_err(|error| LogError::io(path.clone(), error))?;
                cut(&path, good)?;
            }
            None => {}
        }
        for (path, end) in self.trims {
            match end {
                Some(end) => cut(&path, end)?,
                None => fs::remove_file(&path).map_err(|error| LogError::io(path, error))?,
            }
        }
        sync_directory(directory)
    }
}

/// Moves the engine's files to [`ASIDE`].
pub(super) fn set_all_aside(directory: &Path) -> Result<(), LogError> {
    let aside = empty_aside(directory)?;
    for suffix in SUFFIXES {
        for (_, path) in numbered(directory, suffix)? {
            let Some(name) = path.file_name() else {
                continue;
            };
            fs::rename(&path, aside.join(name)).map_err(|error| LogError::io(path, error))?;
        }
    }
    sync_directory(directory)
}

fn empty_aside(directory: &Path) -> Result<PathBuf, LogError> {
    let aside = directory.join(ASIDE);
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(LogError::io(aside, error));
        }
        _ => {}
    }
    match fs::create_dir(&aside) {
        Ok(()) => Ok(aside),
        Err(error) => Err(LogError::io(aside, error)),
    }
}

/// Durable when it returns.
fn cut(path: &Path, end: usize) -> Result<(), LogError> {
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(end as u64)?;
        file.sync_all()
    };
    cut().map_err(|error| LogError::io(path.to_owned(), error))
}

/// Makes its files' names durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), LogError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| LogError::io(directory.to_owned(), error))
}

/// The engine's files of one sort, by number.
fn numbered(directory: &Path, suffix: &str) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let failed = |error| LogError::io(directory.to_owned(), error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix));
        let digits = number.filter(|digits| digits.len() == NUMBER_WIDTH);
        if let Some(number) = digits.and_then(|digits| digits.parse().ok()) {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_file_that_is_gone_is_damage() {
        let directory = tempdir().unwrap();
        for number in [3, 5] {
            fs::write(directory.path().join(format!("{number:016}.raftlog")), []).unwrap();
        }
        fs::write(directory.path().join("4.raftlog"), []).unwrap();
        assert!(has_files(directory.path()).unwrap());
        let plan = inspect(directory.path(), false).unwrap();
        assert!(plan.why().unwrap().contains("0005.raftlog is gone"));
        plan.carry_out(directory.path()).unwrap();
        assert!(!has_files(directory.path()).unwrap());
        assert!(
            directory
                .path()
                .join("damaged/0000000000000003.raftlog")
                .exists()
        );
    }

    #[test]
    fn an_unborn_file_goes() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("0000000000000001.raftlog");
        fs::write(&path, [0; 10]).unwrap();
        let plan = inspect(directory.path(), false).unwrap();
        assert_eq!(plan.why(), None);
        plan.carry_out(directory.path()).unwrap();
        assert!(!path.exists());
    }
}
