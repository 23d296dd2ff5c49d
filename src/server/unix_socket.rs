//! Unix sockets that are listened on: one that no one serves any more is replaced, one that someone
//! serves is an error, and whoever has it in the end takes it away.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::listener::BACKLOG;
use super::settings::{ListenerSettings, PortSharing, SocketFile};
use crate::net::UnixPath;

/// The file of a socket that this process has made; removed with it, unless another process has put
/// its own there meanwhile.
pub(super) struct OwnSocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for OwnSocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Whoever comes next replaces it.
            _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at a path.
pub(super) fn bind(
    path: &UnixPath,
    listener: &ListenerSettings,
) -> io::Result<(UnixListener, OwnSocketFile)> {
    let fails = |error: io::Error, hint: &str| {
        io::Error::new(error.kind(), format!("cannot listen on {path}{hint}: {error}"))
    };
    let at = path.as_path();
    let shared = listener.share == PortSharing::Yes;
    match state_of(at).map_err(|why| fails(why, ""))? {
        // For a hand-over the new socket is put in place of the one that is served.
        State::Free => {}
        State::Served if shared => {}
        State::Stale if shared => {}
        State::Stale => {
            fs::remove_file(at).map_err(|why| fails(why, " (an old socket is there)"))?;
        }
        State::Served => {
            let hint = match listener.share {
                PortSharing::Never => {
                    ": another process serves it; stop that or choose another path".to_owned()
                }
                _ => format!(
                    ": another process serves it; stop that, choose another path, or set \
                     `{}.share = true` for a hand-over",
                    listener.section()
                ),
            };
            return Err(fails(io::ErrorKind::AddrInUse.into(), &hint));
        }
        State::Other => {
            let hint = ": a file that is no socket is there; it is left alone";
            return Err(fails(io::ErrorKind::AlreadyExists.into(), hint));
        }
    }
    let made = if shared { beside(at) } else { at.to_owned() };
    let bound = listening(&made, &listener.socket).map_err(|why| {
        let hint = match why.kind() {
            io::ErrorKind::NotFound => ": its directory is not there",
            io::ErrorKind::PermissionDenied => {
                ": this process may not make it there, or give it away"
            }
            io::ErrorKind::InvalidInput => ": its path is too long",
            _ => "",
        };
        _ = fs::remove_file(&made);
        fails(why, hint)
    })?;
    if shared {
        fs::rename(&made, at).map_err(|why| fails(why, ""))?;
    }
    let identity = identity(at).map_err(|why| fails(why, ""))?;
    Ok((bound, OwnSocketFile { path: at.to_owned(), identity }))
}

/// Between being bound and being listened on no one can connect, so that no one gets in before the
/// rights are as they should be.
fn listening(path: &Path, file: &SocketFile) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if file.user.is_some() || file.group.is_some() {
        chown(path, file.user, file.group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(file.mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What is at a path.
enum State {
    Free,
    /// A socket that no one listens on.
    Stale,
    Served,
    Other,
}

fn state_of(path: &Path) -> io::Result<State> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(State::Free),
        Err(why) => return Err(why),
    };
    if !about.file_type().is_socket() {
        return Ok(State::Other);
    }
    // A connection that blocks would wait for room in the queue of a process that stands still.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(State::Served),
        Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => Ok(State::Stale),
        // Its queue is full, or who serves it lets no one in.
        Err(_) => Ok(State::Served),
    }
}

/// A path in the same directory, of this process alone.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.sock", std::process::id()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|about| (about.dev(), about.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn settings(share: PortSharing) -> ListenerSettings {
        ListenerSettings { share, ..ListenerSettings::plain("local", Vec::new()) }
    }

    fn path(folder: &tempfile::TempDir, name: &str) -> UnixPath {
        UnixPath::new(folder.path().join(name).to_str().unwrap()).unwrap()
    }

    #[test]
    fn a_stale_socket_is_replaced_and_one_that_is_served_or_is_none_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = path(&folder, "a.sock");
        drop(UnixListener::bind(at.as_path()).unwrap());
        let (served, file) = bind(&at, &settings(PortSharing::No)).unwrap();
        assert_eq!(fs::metadata(at.as_path()).unwrap().mode() & 0o777, 0o660);
        assert!(UnixStream::connect(at.as_path()).is_ok());
        let why = bind(&at, &settings(PortSharing::No)).err().unwrap().to_string();
        assert!(why.contains("another process serves it") && why.contains("share"), "{why}");
        drop((served, file));
        assert!(!at.as_path().exists(), "it is removed at the end");
        fs::write(at.as_path(), "mine").unwrap();
        let why = bind(&at, &settings(PortSharing::No)).err().unwrap().to_string();
        assert!(why.contains("no socket is there"), "{why}");
        assert_eq!(fs::read_to_string(at.as_path()).unwrap(), "mine");
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_one_that_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let at = path(&folder, "a.sock");
        let address = SockAddr::unix(at.as_path()).unwrap();
        let served = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        served.bind(&address).unwrap();
        served.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let peer = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            peer.set_nonblocking(true).unwrap();
            if peer.connect(&address).is_err() {
                break;
            }
            waiting.push(peer);
        }
        let why = bind(&at, &settings(PortSharing::No)).err().unwrap().to_string();
        assert!(why.contains("another process serves it"), "{why}");
    }

    #[test]
    fn whoever_takes_over_keeps_the_path_when_the_other_goes() {
        let folder = tempfile::tempdir().unwrap();
        let at = path(&folder, "a.sock");
        let (old, old_file) = bind(&at, &settings(PortSharing::Yes)).unwrap();
        let before = UnixStream::connect(at.as_path()).unwrap();
        let (new, new_file) = bind(&at, &settings(PortSharing::Yes)).unwrap();
        let after = UnixStream::connect(at.as_path()).unwrap();
        assert!(old.accept().is_ok() && new.accept().is_ok(), "each has its own");
        drop((old, old_file, before, after));
        assert!(UnixStream::connect(at.as_path()).is_ok());
        drop((new, new_file));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_it_cannot_be_is_told_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let why = bind(&path(&folder, "no/a.sock"), &settings(PortSharing::No));
        let why = why.err().unwrap().to_string();
        assert!(why.contains("its directory is not there"), "{why}");
    }
}
