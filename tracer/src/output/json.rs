//! JSON objects written straight into a buffer, one a line.

use std::net::SocketAddr;

/// What stands before a value: a comma, the name of the value, a colon.
///
/// A name does as it is. Lines that are written for each event have theirs from [`key!`], which puts all of it together
/// when it is compiled, so that it is copied in one piece.
pub trait Key {
    /// Before a value.
    fn before_value(self, out: &mut Vec<u8>);
    /// Before the inside of a string.
    fn before_text(self, out: &mut Vec<u8>);
    /// With a null as its value.
    fn with_null(self, out: &mut Vec<u8>);
}

impl<T: AsRef<str> + ?Sized> Key for &T {
    fn before_value(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(self.as_ref().as_bytes());
        out.extend_from_slice(b"\":");
    }

    fn before_text(self, out: &mut Vec<u8>) {
        self.before_value(out);
        out.push(b'"');
    }

    fn with_null(self, out: &mut Vec<u8>) {
        self.before_value(out);
        out.extend_from_slice(b"null");
    }
}

/// A key put together by [`key!`].
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// See [`Key::before_value`].
    pub value: &'static str,
    /// See [`Key::before_text`].
    pub text: &'static str,
    /// See [`Key::with_null`].
    pub null: &'static str,
}

/// A key of a line that is written for each event: see [`Key`].
macro_rules! key {
    ($name:literal) => {
        $crate::output::json::Joined {
            value: concat!(",\"", $name, "\":"),
            text: concat!(",\"", $name, "\":\""),
            null: concat!(",\"", $name, "\":null"),
        }
    };
}
pub(crate) use key;

/// Inlined, so that the lengths are known: no call for a few bytes.
impl Key for Joined {
    #[inline(always)]
    fn before_value(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.value.as_bytes());
    }

    #[inline(always)]
    fn before_text(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.as_bytes());
    }

    #[inline(always)]
    fn with_null(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.null.as_bytes());
    }
}

/// One object under way; [`Object::end`] closes it with a newline.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    /// Opens an object, and writes the `schema` that every line has.
    #[inline]
    pub fn event(out: &'a mut Vec<u8>, event: &str) -> Self {
        out.extend_from_slice(b"{\"schema\":1,\"event\":\"");
        out.extend_from_slice(event.as_bytes());
        out.push(b'"');
        Object { out }
    }

    /// What stands in the middle of one.
    pub(crate) fn piece(out: &'a mut Vec<u8>) -> Self {
        Object { out }
    }

    /// A piece that was written before.
    #[inline]
    pub(crate) fn put(&mut self, piece: &[u8]) {
        self.out.extend_from_slice(piece);
    }

    /// A value written by `write`.
    #[inline]
    pub fn with(&mut self, key: impl Key, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        key.before_value(self.out);
        write(self.out);
        self
    }

    /// A whole number.
    #[inline]
    pub fn number(&mut self, key: impl Key, value: impl itoa::Integer) -> &mut Self {
        key.before_value(self.out);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self
    }

    /// A whole number or null.
    #[inline]
    pub fn number_or_null(
        &mut self,
        key: impl Key,
        value: Option<impl itoa::Integer>,
    ) -> &mut Self {
        match value {
            Some(value) => self.number(key, value),
            None => self.null(key),
        }
    }

    /// `null`.
    #[inline(always)]
    pub fn null(&mut self, key: impl Key) -> &mut Self {
        key.with_null(self.out);
        self
    }

    /// `true` or `false`.
    #[inline]
    pub fn boolean(&mut self, key: impl Key, value: bool) -> &mut Self {
        key.before_value(self.out);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    /// A string that is known to need no escaping.
    #[inline]
    pub fn plain(&mut self, key: impl Key, value: &str) -> &mut Self {
        key.before_text(self.out);
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
        self
    }

    /// A number as a string: 64 bits do not survive in every reader's numbers.
    #[inline]
    pub fn number_as_string(&mut self, key: impl Key, value: u64) -> &mut Self {
        self.plain(key, itoa::Buffer::new().format(value))
    }

    /// A string of any bytes.
    #[inline]
    pub fn string(&mut self, key: impl Key, value: &[u8]) -> &mut Self {
        key.before_value(self.out);
        string(value, self.out);
        self
    }

    /// A string of any bytes, or null.
    #[inline(always)]
    pub fn string_or_null(&mut self, key: impl Key, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.string(key, value),
            None => self.null(key),
        }
    }

    /// A list of strings.
    pub fn strings<'s>(
        &mut self,
        key: impl Key,
        values: impl IntoIterator<Item = &'s str>,
    ) -> &mut Self {
        key.before_value(self.out);
        let out = &mut *self.out;
        out.push(b'[');
        for (index, value) in values.into_iter().enumerate() {
            if index != 0 {
                out.push(b',');
            }
            string(value.as_bytes(), out);
        }
        out.push(b']');
        self
    }

    /// `addr:port`, or null when there is no port.
    #[inline]
    pub fn endpoint(&mut self, key: impl Key, addr: SocketAddr) -> &mut Self {
        if addr.port() == 0 {
            return self.null(key);
        }
        key.before_text(self.out);
        crate::text::endpoint(addr, self.out);
        self.out.push(b'"');
        self
    }

    /// Closes the object and ends the line.
    pub fn end(&mut self) {
        self.out.extend_from_slice(b"}\n");
    }
}

/// Writes bytes as a JSON string: invalid UTF-8 becomes U+FFFD, control characters are escaped.
#[inline]
pub fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if crate::text::is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        escaped(bytes, out);
    }
    out.push(b'"');
}

#[cold]
fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            // DEL, C1, separators and what turns text around are legal in JSON, and harm
            // terminals and readers. Escaped they are the same string.
            c if c.is_control() || crate::text::is_invisible(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_seen_is_escaped() {
        let check = |text: &str, expect: &str| {
            let mut out = Vec::new();
            string(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("\"{expect}\""));
            let read: String = serde_json::from_str(&format!("\"{expect}\"")).expect("JSON");
            assert_eq!(read, text);
        };
        check("\u{1b}[2J\u{7}\n", "\\u001b[2J\\u0007\\u000a");
        check("a\u{202e}b\u{2066}\u{feff}", "a\\u202eb\\u2066\\ufeff");
        // Tags, beyond the first 65,536 characters.
        check("\u{e0041}", "\\udb40\\udc41");
        check("caf\u{e9} \u{1f600}", "caf\u{e9} \u{1f600}");
        check(&"x".repeat(10_000), &"x".repeat(10_000));
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_string_any_reader_takes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            string(&bytes, &mut out);
            let read: String = serde_json::from_slice(&out).expect("valid JSON");
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes).into_owned());
            prop_assert!(!out.iter().any(|&byte| byte < 0x20 || byte == 0x7f));
        }
    }
}
