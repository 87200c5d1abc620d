//! What the engines say of their containers: Docker and containerd in a file for each, Podman and CRI-O in lists.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::files;
use crate::names::Given;

/// Where Docker keeps its data when nobody says where: as a package, and as a snap.
const DOCKER: [&str; 2] = ["var/lib/docker", "var/snap/docker/common/var-lib-docker"];
/// Where containerd keeps what runs; k3s has one of its own.
const CONTAINERD: [&str; 2] = [
    "run/containerd/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
];
/// Where Podman and CRI-O (`containers-storage`) keep theirs; people's are below `home`.
const STORAGE: &str = "var/lib/containers/storage";
const STORAGE_AT_HOME: &str = ".local/share/containers/storage";

/// Namespaces of containerd, and homes: that many are looked at.
const MOST_PLACES: usize = 100;

/// The names that lists have, by the container's id.
#[derive(Debug, Default)]
pub(super) struct Lists(HashMap<String, Given>);

/// An element of a list of `containers-storage`.
#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

impl Lists {
    pub(super) fn read(root: &Path) -> Lists {
        let homes = files::names_in(&root.join("home")).take(MOST_PLACES);
        let homes = homes.map(|home| root.join("home").join(home).join(STORAGE_AT_HOME));
        let storages = [root.join(STORAGE), root.join("root").join(STORAGE_AT_HOME)];
        let mut by_id = HashMap::new();
        for storage in storages.into_iter().chain(homes) {
            // As the storage's driver is called: `overlay-containers`, `vfs-containers`.
            let folders = files::names_in(&storage).filter(|name| name.ends_with("-containers"));
            for folder in folders.take(MOST_PLACES) {
                for list in ["containers.json", "volatile-containers.json"] {
                    let Some(bytes) = files::read(&storage.join(&folder).join(list)) else {
                        continue;
                    };
                    let Ok(stored) = serde_json::from_slice::<Vec<Stored>>(&bytes) else {
                        continue;
                    };
                    let named = stored.into_iter().filter_map(|stored| {
                        let name = stored.names.into_iter().find(|name| !name.is_empty())?;
                        Some((stored.id, of_kubernetes(&name).unwrap_or_else(|| just(name))))
                    });
                    by_id.extend(named);
                }
            }
        }
        Lists(by_id)
    }

    pub(super) fn container(&self, id: &str) -> Option<Given> {
        self.0.get(id).cloned()
    }
}

fn just(container: String) -> Given {
    Given { container: Some(container), ..Given::default() }
}

/// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`: how CRI-O and Docker under kubelet call containers.
fn of_kubernetes(name: &str) -> Option<Given> {
    let mut parts = name.strip_prefix("k8s_")?.split('_').map(str::to_owned);
    let (container, pod, namespace) = (parts.next(), parts.next(), parts.next());
    parts.next()?;
    Some(Given { container, namespace, pod })
}

/// By the file that the container has of its own.
pub(super) fn container(root: &Path, id: &str) -> Option<Given> {
    docker(root, id).or_else(|| containerd(root, id))
}

fn docker(root: &Path, id: &str) -> Option<Given> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        name: String,
    }
    let mut places: Vec<PathBuf> = DOCKER.iter().map(|place| root.join(place)).collect();
    places.extend(docker_elsewhere(root));
    places.iter().find_map(|place| {
        let bytes = files::read(&place.join("containers").join(id).join("config.v2.json"))?;
        let Config { name } = serde_json::from_slice(&bytes).ok()?;
        let name = name.strip_prefix('/').unwrap_or(&name);
        let name = Some(name).filter(|name| !name.is_empty())?;
        Some(of_kubernetes(name).unwrap_or_else(|| just(name.to_owned())))
    })
}

/// Where `daemon.json` says that Docker's data are.
fn docker_elsewhere(root: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Daemon {
        #[serde(rename = "data-root")]
        data_root: PathBuf,
    }
    let bytes = files::read(&root.join("etc/docker/daemon.json"))?;
    let Daemon { data_root } = serde_json::from_slice(&bytes).ok()?;
    Some(root.join(data_root.strip_prefix("/").ok()?))
}

/// In the annotations of the container's OCI configuration: those of containerd's CRI plug-in, or nerdctl's.
fn containerd(root: &Path, id: &str) -> Option<Given> {
    #[derive(Deserialize)]
    struct Config {
        annotations: HashMap<String, Text>,
    }
    /// What is no text is no name, and no reason to leave out the others.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Text(String),
        Other(IgnoredAny),
    }
    CONTAINERD.iter().find_map(|place| {
        let place = root.join(place);
        let mut namespaces = files::names_in(&place).take(MOST_PLACES);
        namespaces.find_map(|namespace| {
            let bytes = files::read(&place.join(namespace).join(id).join("config.json"))?;
            let Config { mut annotations } = serde_json::from_slice(&bytes).ok()?;
            let mut text = |key: &str| match annotations.remove(key)? {
                Text::Text(text) => Some(text).filter(|text| !text.is_empty()),
                Text::Other(_) => None,
            };
            let container =
                text("io.kubernetes.cri.container-name").or_else(|| text("nerdctl/name"));
            let namespace = text("io.kubernetes.cri.sandbox-namespace");
            let pod = text("io.kubernetes.cri.sandbox-name");
            let given = Given { container, namespace, pod };
            (given != Given::default()).then_some(given)
        })
    })
}
