//! The database: the counters, and the latest time that was seen, in one file.
//!
//! It holds no names: whose a counter is, is a number made of a name by a hash. A commit is on the
//! disk when it returns. After an error the file is opened anew, so that a disk that was full
//! serves again once it is not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _,
    StorageError, TableDefinition, TableError,
};

use super::counter::WindowKey;

/// Budget, caller, and the start of the window.
type CounterKey = (&'static str, u64, i64);

/// How many are used, and the end of the window.
type CounterValue = (u32, i64);

const COUNTERS: TableDefinition<'_, CounterKey, CounterValue> = TableDefinition::new("counters");

/// One row: the latest second that was seen.
const CLOCK: TableDefinition<'_, (), i64> = TableDefinition::new("clock");

/// Windows that are over for so long are forgotten: a refund may still come for a while.
const KEPT_SECONDS: i64 = 24 * 3600;

/// What the database holds in memory at most.
const CACHE_BYTES: usize = 16 << 20;

/// Why budgets cannot be kept in a file.
#[derive(Debug, thiserror::Error)]
#[error("the budgets' file {}: {why}", path.display())]
pub struct CounterFileError {
    path: PathBuf,
    why: CauseError,
}

#[derive(Debug, thiserror::Error)]
enum CauseError {
    #[error("another process has it open: one process alone keeps budgets in a file")]
    FileState,
    #[error("it is no file of this gateway's budgets, or damaged: {0}")]
    Strange(StorageError),
    #[error("{0}")]
    Input(io::Error),
    #[error("{0}")]
    Database(redb::Error),
}

impl CounterFileError {
    /// No thread can be started to keep it.
    pub(super) fn of_thread(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), why: CauseError::Input(error) }
    }
}

/// What the file said at a moment. What is written meanwhile is not in it, and waits for nothing.
pub(super) struct ReadSnapshot(Option<ReadOnlyTable<CounterKey, CounterValue>>);

impl ReadSnapshot {
    /// Goes through all rows: budget, caller, start of the window, and how many are used.
    pub(super) fn each(self, mut see: impl FnMut(&str, u64, i64, u32)) -> Result<(), StorageError> {
        let Some(table) = self.0 else { return Ok(()) };
        for row in table.iter()? {
            let (key, value) = row?;
            let (budget, caller, start) = key.value();
            see(budget, caller, start, value.value().0);
        }
        Ok(())
    }
}

/// The database, and where it is.
pub(super) struct CounterFile {
    path: PathBuf,
    /// `None` after an error, until it is needed again.
    open: Option<Database>,
}

impl CounterFile {
    /// Opens the database, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, CounterFileError> {
        let mut file = Self { path: path.to_owned(), open: None };
        file.with(|_| Ok(()))?;
        Ok(file)
    }

    /// The latest second that was seen; `None` for a new file.
    pub(super) fn latest(&mut self) -> Result<Option<i64>, CounterFileError> {
        self.with(|database| {
            let table = match database.begin_read()?.open_table(CLOCK) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(())?.map(|second| second.value()))
        })
    }

    /// How much is used of each, in their command.
    pub(super) fn read<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k WindowKey> + Clone,
    ) -> Result<Vec<u32>, CounterFileError> {
        self.with(|database| {
            let table = match database.begin_read()?.open_table(COUNTERS) {
                Err(TableError::TableDoesNotExist(_)) => {
                    return Ok(keys.clone().map(|_| 0).collect());
                }
                table => table?,
            };
            let used = |key: &WindowKey| Ok(table.get(key.row())?.map_or(0, |row| row.value().0));
            keys.clone().map(used).collect()
        })
    }

    /// What the file says at this moment.
    pub(super) fn snapshot(&mut self) -> Result<ReadSnapshot, CounterFileError> {
        self.with(|database| match database.begin_read()?.open_table(COUNTERS) {
            Err(TableError::TableDoesNotExist(_)) => Ok(ReadSnapshot(None)),
            table => Ok(ReadSnapshot(Some(table?))),
        })
    }

    /// Writes rows, and the latest second. They are on the disk when this returns.
    pub(super) fn write(
        &mut self,
        rows: &[(&WindowKey, u32)],
        latest: i64,
    ) -> Result<(), CounterFileError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(COUNTERS)?;
                for (key, used) in rows {
                    table.insert(key.row(), (*used, key.end))?;
                }
                transaction.open_table(CLOCK)?.insert((), latest)?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// Forgets windows that are long over.
    pub(super) fn prune(&mut self, latest: i64) -> Result<(), CounterFileError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let over = latest.saturating_sub(KEPT_SECONDS);
            transaction.open_table(COUNTERS)?.retain(|_, (_, end)| end > over)?;
            Ok(transaction.commit()?)
        })
    }

    /// Does something with the open database. After an error it is closed.
    fn with<T>(
        &mut self,
        act: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, CounterFileError> {
        let done = match self.open.take() {
            Some(database) => {
                act(&database).map(|done| (done, database)).map_err(CauseError::Database)
            }
            None => database(&self.path).and_then(|database| {
                act(&database).map(|done| (done, database)).map_err(CauseError::Database)
            }),
        };
        match done {
            Ok((done, database)) => {
                self.open = Some(database);
                Ok(done)
            }
            Err(why) => Err(CounterFileError { path: self.path.clone(), why }),
        }
    }
}

/// Opens the database; a file that is made may be read by its owner alone.
fn database(path: &Path) -> Result<Database, CauseError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(CauseError::Input)?;
    // The name of a new file is of its directory.
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(CauseError::Input)?;
    }
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = FileBackend::new(file).and_then(|file| builder.create_with_backend(file));
    database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => CauseError::FileState,
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() != io::ErrorKind::InvalidData =>
        {
            CauseError::Input(error)
        }
        DatabaseError::Storage(error) => CauseError::Strange(error),
        error => CauseError::Database(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn key(caller: u64, start: i64) -> WindowKey {
        WindowKey { budget: "backend/tokens-day".into(), caller, start, end: start + 86_400 }
    }

    fn file() -> (tempfile::TempDir, PathBuf, CounterFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budgets.db");
        let file = CounterFile::open(&path).unwrap();
        (folder, path, file)
    }

    #[test]
    fn what_was_written_is_there_when_it_is_opened_again() {
        let (_folder, path, mut file) = file();
        assert_eq!(file.latest().unwrap(), None);
        assert_eq!(file.read([key(1, 0)].iter()).unwrap(), [0]);
        file.write(&[(&key(1, 0), 5), (&key(2, 0), 7)], 100).unwrap();
        file.write(&[(&key(1, 0), 6)], 101).unwrap();
        drop(file);
        let mut file = CounterFile::open(&path).unwrap();
        assert_eq!(file.latest().unwrap(), Some(101));
        assert_eq!(file.read([key(2, 0), key(1, 0), key(1, 86_400)].iter()).unwrap(), [7, 6, 0]);
        let mut rows = Vec::new();
        let snapshot = file.snapshot().unwrap();
        file.write(&[(&key(1, 0), 9)], 102).unwrap();
        snapshot.each(|_, caller, _, used| rows.push((caller, used))).unwrap();
        assert_eq!(rows, [(1, 6), (2, 7)], "as it was when it was taken");
    }

    #[test]
    fn windows_that_are_long_over_are_forgotten() {
        let (_folder, _path, mut file) = file();
        file.write(&[(&key(1, 0), 5), (&key(1, 86_400), 7)], 100).unwrap();
        file.prune(86_400 + KEPT_SECONDS).unwrap();
        assert_eq!(file.read([key(1, 0), key(1, 86_400)].iter()).unwrap(), [0, 7]);
    }

    #[test]
    fn a_new_file_is_its_owners_alone() {
        let (_folder, path, _book) = file();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_reason() {
        let (folder, path, _book) = file();
        let said = |path: &Path| CounterFile::open(path).err().unwrap().to_string();
        assert!(said(&path).contains("another process has it open"), "{}", said(&path));
        let missing = folder.path().join("missing/budgets.db");
        assert!(said(&missing).contains("missing/budgets.db"), "{}", said(&missing));
        let strange = folder.path().join("strange.db");
        fs::write(&strange, "no database at all ".repeat(1_000)).unwrap();
        assert!(said(&strange).contains("no file of this gateway's"), "{}", said(&strange));
    }
}
