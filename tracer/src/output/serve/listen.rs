//! Where requests come in: addresses and sockets in the file system, bound before anything runs in the kernel.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::config::Listen;

/// Owner and group: a reverse proxy is given the group.
const SOCKET_MODE: u32 = 0o660;

/// One that is bound.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Binds.
///
/// # Errors
/// When it cannot: the address is in use or not of this machine, the port is another user's to open.
pub(super) fn bind(listen: &Listen) -> Result<Bound> {
    let bound = match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).with_context(|| {
                format!("cannot listen on {address}; choose another address with --listen")
            })?;
            listener.set_nonblocking(true)?;
            Bound::Tcp(listener)
        }
        Listen::Unix(path) => {
            make_room(path)?;
            let cannot = || format!("cannot listen on {}", path.display());
            let listener = UnixListener::bind(path).with_context(cannot)?;
            fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
                .with_context(cannot)?;
            listener.set_nonblocking(true)?;
            Bound::Unix(listener, path.clone())
        }
    };
    Ok(bound)
}

/// Removes the socket of a run that was killed: one that nobody listens on any more.
fn make_room(path: &Path) -> Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        bail!(
            "{} exists and is not a socket, so tcptrail does not replace it; give another path",
            path.display()
        );
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => bail!(
            "another process listens on {} already: is tcptrail serve running?",
            path.display()
        ),
    }
}

impl Bound {
    /// As somebody asks for it: `http://127.0.0.1:9435`, `unix:/run/x`.
    pub(super) fn url(&self) -> String {
        match self {
            Bound::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}"),
                Err(_) => "http://?".to_owned(),
            },
            Bound::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Whether other machines can ask.
    pub(super) fn is_open_to_others(&self) -> bool {
        match self {
            Bound::Tcp(listener) => listener
                .local_addr()
                .is_ok_and(|address| !address.ip().to_canonical().is_loopback()),
            Bound::Unix(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_a_killed_run_left_makes_room_and_nothing_else_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("http.sock");
        let listen = Listen::Unix(path.clone());
        let first = bind(&listen).expect("there is nothing yet");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        let error = bind(&listen).expect_err("somebody listens").to_string();
        assert!(error.contains("already"), "{error}");
        // As after kill -9: it is there, and nobody listens.
        drop(first);
        assert!(path.exists());
        bind(&listen).expect("nobody listens any more");
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "precious").expect("room");
        let error = bind(&listen).expect_err("a file").to_string();
        assert!(
            error.contains("not a socket") && fs::read(&path).is_ok_and(|it| it == b"precious")
        );
    }

    #[test]
    fn who_can_ask_is_known() {
        let check = |address: &str, expect| {
            let listen = Listen::Tcp(address.parse().expect("an address"));
            // Not every machine has IPv6.
            if let Ok(bound) = bind(&listen) {
                assert_eq!(bound.is_open_to_others(), expect, "{address}");
            }
        };
        check("127.0.0.1:0", false);
        check("127.1.2.3:0", false);
        check("[::1]:0", false);
        check("0.0.0.0:0", true);
        check("[::]:0", true);
    }
}
