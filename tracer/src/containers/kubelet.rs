//! What kubelet says of pods in the names of links and folders: `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`,
//! and `/var/log/pods/NAMESPACE_POD_UID`.

use std::collections::HashMap;
use std::path::Path;

use crate::files;
use crate::names::Given;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_id: HashMap<String, Given>,
    by_uid: HashMap<String, Given>,
}

impl Links {
    pub(super) fn read(root: &Path) -> Links {
        let links = files::names_in(&root.join("var/log/containers"));
        let folders = files::names_in(&root.join("var/log/pods"));
        Links {
            by_id: links.filter_map(|name| link(&name)).collect(),
            by_uid: folders.filter_map(|name| folder(&name)).collect(),
        }
    }

    pub(super) fn container(&self, id: &str) -> Option<&Given> {
        self.by_id.get(id)
    }

    /// What is known of a pod by its uid, as [`pod_uid`] has it.
    pub(super) fn pod(&self, uid: &str) -> Option<&Given> {
        self.by_uid.get(uid)
    }
}

/// `logPathSymlink` of kubelet's dockershim and `legacyLogSymlink` of kuberuntime. Names of pods, namespaces and
/// containers have no `_`; those of containers may have `-`.
fn link(name: &str) -> Option<(String, Given)> {
    let mut parts = name.strip_suffix(".log")?.split('_');
    let (pod, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (container, id) = rest.rsplit_once('-')?;
    let whole =
        parts.next().is_none() && [pod, namespace, container].iter().all(|name| !name.is_empty());
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let given = Given {
        container: Some(container.to_owned()),
        namespace: Some(namespace.to_owned()),
        pod: Some(pod.to_owned()),
    };
    (whole && is_id).then(|| (id.to_owned(), given))
}

/// `BuildPodLogsDirectory`. The uid of a static pod is a hash without dashes.
fn folder(name: &str) -> Option<(String, Given)> {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && [namespace, pod, uid].iter().all(|name| !name.is_empty());
    let (namespace, pod) = (Some(namespace.to_owned()), Some(pod.to_owned()));
    whole.then(|| (uid.to_owned(), Given { container: None, namespace, pod }))
}

/// The uid of the pod a cgroup is in: `/kubepods/besteffort/podUID/ID` with kubelet's cgroupfs driver,
/// `kubepods-besteffort-podUID.slice` with systemd's, which has `_` for `-`.
pub(super) fn pod_uid(path: &[u8]) -> Option<String> {
    let parts = std::str::from_utf8(path).ok()?.split('/');
    let uids = parts.filter_map(|part| match part.strip_suffix(".slice") {
        Some(slice) => {
            let (_, uid) = slice.strip_prefix("kubepods")?.rsplit_once("-pod")?;
            Some(uid.replace('_', "-"))
        }
        None => part.strip_prefix("pod").map(str::to_owned),
    });
    let mut uids = uids.filter(|uid| {
        uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    });
    uids.next_back()
}
