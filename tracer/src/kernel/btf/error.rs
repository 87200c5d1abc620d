//! Why BTF could not be read.

use thiserror::Error;

/// Why BTF could not be read, or what it does not hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The first bytes are not those of BTF.
    #[error("not BTF: it does not begin with the magic number")]
    Magic,
    /// Written on a machine of the other byte order.
    #[error("BTF of a machine with another byte order")]
    ForeignEndian,
    /// A version this reader does not know.
    #[error("BTF version {0}, but only version 1 is known")]
    Version(u8),
    /// The header is cut short, or a section it names is not within the data.
    #[error("BTF is damaged: the {0} is not within the data")]
    Section(&'static str),
    /// A type runs over the end of its section.
    #[error("BTF is damaged: type {0} is cut short")]
    Truncated(u32),
    /// A kind of type that came after this reader, in BTF that does not say how long it is.
    #[error("BTF type {id} has the unknown kind {kind}")]
    UnknownKind {
        /// The type.
        id: u32,
        /// Its kind.
        kind: u8,
    },
    /// There is no struct or union of that name.
    #[error("the kernel has no struct {0}")]
    NoSuchStruct(String),
    /// The struct has no such member.
    #[error("the kernel's struct {root} has no field {path}")]
    NoSuchField {
        /// The struct the path starts from.
        root: String,
        /// The path up to the member that is missing.
        path: String,
    },
    /// The member is a bit field or does not start at a byte.
    #[error("field {path} of the kernel's struct {root} is a bit field")]
    Bitfield {
        /// The struct the path starts from.
        root: String,
        /// The path up to the bit field.
        path: String,
    },
    /// A type on the way refers to nothing, to itself, or has no size.
    #[error("BTF is damaged around field {path} of struct {root}")]
    Malformed {
        /// The struct the path starts from.
        root: String,
        /// The path up to the bad type.
        path: String,
    },
}
