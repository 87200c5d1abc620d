//! The container image, unpacked as a container host does it: no other file is there.

use std::process::Command;

use anyhow::Result;

use super::{Files, Row, checks, done_with, folder};
use crate::command::must;

/// Where the image has the binary, and starts it.
const PROGRAM: &str = "/usr/bin/tcptrail";

pub(super) fn run(release: &Files) -> Result<Row> {
    let mut row = Row::new("image", "OCI image, copied by skopeo and unpacked by umoci");
    let dir = folder("image")?;
    let (layout, bundle) = (dir.join("layout"), dir.join("bundle"));
    // Of an image for several architectures this takes the machine's.
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci-archive:{}", release.image.display()))
        .arg(format!("oci:{}:tcptrail", layout.display()));
    must(&mut copy, "read the image", "see what skopeo says")?;
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--image"]).arg(format!("{}:tcptrail", layout.display())).arg(&bundle);
    must(&mut unpack, "unpack the image", "see what umoci says")?;
    checks::all(&mut row, &bundle.join("rootfs"), PROGRAM)?;
    done_with(&dir)?;
    Ok(row)
}
