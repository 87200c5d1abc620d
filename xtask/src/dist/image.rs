//! The container image, as an OCI layout (image-spec 1.1) in a tar archive: one layer with the static binary for
//! each architecture. The layout names one image, an index of the architectures, so tools choose by the machine's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Release;
use crate::ebpf;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes `tcptrail-VERSION.oci.tar` with an image for each of these binaries.
pub(super) fn write(release: &Release, binaries: &[(&str, &str, PathBuf)]) -> Result<()> {
    let layout = release.stage.join("image");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut manifests = Vec::new();
    for (arch, container, binary) in binaries {
        let root = release.stage.join(format!("root-{arch}"));
        fs::create_dir_all(root.join("usr/bin"))?;
        fs::copy(binary, root.join("usr/bin/tcptrail"))?;
        let packed = release.stage.join(format!("root-{arch}.tar"));
        release.tar(&root, "usr", &packed)?;
        let layer = blob(&blobs, fs::read(&packed)?, LAYER)?;
        let config = json!({
            "architecture": container,
            "os": "linux",
            "created": created(release)?,
            "config": {
                "Entrypoint": ["/usr/bin/tcptrail"],
                "Env": ["PATH=/usr/bin"],
                "Labels": labels(release),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = blob(&blobs, serde_json::to_vec(&config)?, CONFIG)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": labels(release),
        });
        let mut manifest = blob(&blobs, serde_json::to_vec(&manifest)?, MANIFEST)?;
        manifest["platform"] = json!({"os": "linux", "architecture": container});
        manifests.push(manifest);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
        "annotations": labels(release),
    });
    let mut image = blob(&blobs, serde_json::to_vec(&index)?, INDEX)?;
    image["annotations"] = json!({"org.opencontainers.image.ref.name": release.version});
    let layout_index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image]});
    fs::write(layout.join("index.json"), serde_json::to_vec(&layout_index)?)?;
    fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let archive = release.out.join(format!("tcptrail-{}.oci.tar", release.version));
    release.tar(&layout, ".", &archive)
}

/// Stores a blob under its checksum; returns its descriptor.
fn blob(blobs: &Path, bytes: Vec<u8>, kind: &str) -> Result<Value> {
    let new = blobs.join("new");
    fs::write(&new, &bytes).context("cannot write into the image")?;
    let sums = ebpf::checksums(blobs, &["new".to_owned()])?;
    let sum = sums.split_whitespace().next().unwrap_or_default();
    fs::rename(&new, blobs.join(sum))?;
    Ok(json!({"mediaType": kind, "digest": format!("sha256:{sum}"), "size": bytes.len()}))
}

/// The commit's time as RFC 3339.
fn created(release: &Release) -> Result<String> {
    let mut date = std::process::Command::new("date");
    date.args(["-u", &format!("-d@{}", release.commit.epoch), "+%Y-%m-%dT%H:%M:%SZ"]);
    let said = crate::command::quietly(&mut date).context("`date` does not tell the time")?;
    Ok(said.trim().to_owned())
}

fn labels(release: &Release) -> Value {
    json!({
        "org.opencontainers.image.title": "tcptrail",
        "org.opencontainers.image.description": "The whole life of TCP connections, from the kernel",
        "org.opencontainers.image.version": release.version,
        "org.opencontainers.image.revision": release.commit.name,
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
    })
}
