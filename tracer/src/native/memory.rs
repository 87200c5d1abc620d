//! Another process's memory, read through `/proc/PID/mem`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;
/// Pages kept; more than a look at HotSpot's tables touches.
const MOST_PAGES: usize = 1024;

/// Reads words of a process. The process goes on while we look, so any word may be stale.
pub(crate) struct Memory {
    file: File,
    pages: RefCell<HashMap<u64, Box<[u8]>>>,
}

impl Memory {
    /// Needs the right to trace the process.
    pub(crate) fn open(pid: u32) -> io::Result<Memory> {
        let file = File::open(format!("/proc/{pid}/mem"))?;
        Ok(Memory { file, pages: RefCell::default() })
    }

    /// Forgets what was read, so that it is read anew.
    pub(crate) fn refresh(&self) {
        self.pages.borrow_mut().clear();
    }

    /// Fills `to` from `address`; false when not all of it can be read.
    pub(crate) fn read(&self, address: u64, to: &mut [u8]) -> bool {
        let mut pages = self.pages.borrow_mut();
        if pages.len() > MOST_PAGES {
            pages.clear();
        }
        let mut done = 0;
        while done < to.len() {
            let Some(at) = address.checked_add(done as u64) else { return false };
            let (page, within) = (at / PAGE, usize::try_from(at % PAGE).unwrap_or(0));
            let bytes = match pages.entry(page) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                    if self.file.read_exact_at(&mut bytes, page * PAGE).is_err() {
                        return false;
                    }
                    entry.insert(bytes)
                }
            };
            let count = (to.len() - done).min(bytes.len() - within);
            to[done..done + count].copy_from_slice(&bytes[within..within + count]);
            done += count;
        }
        true
    }

    fn number<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes).then_some(bytes)
    }

    /// Eight bytes.
    pub(crate) fn u64(&self, address: u64) -> Option<u64> {
        self.number(address).map(u64::from_ne_bytes)
    }

    /// Four bytes.
    pub(crate) fn u32(&self, address: u64) -> Option<u32> {
        self.number(address).map(u32::from_ne_bytes)
    }

    /// Two bytes.
    pub(crate) fn u16(&self, address: u64) -> Option<u16> {
        self.number(address).map(u16::from_ne_bytes)
    }

    /// One byte.
    pub(crate) fn u8(&self, address: u64) -> Option<u8> {
        self.number::<1>(address).map(|[byte]| byte)
    }

    /// A C string of at most 200 bytes.
    pub(crate) fn string(&self, address: u64) -> Option<String> {
        let mut text = Vec::new();
        for at in 0..200 {
            match self.u8(address.checked_add(at)?)? {
                0 => break,
                byte => text.push(byte),
            }
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}
