//! Where something runs: the service, the container and the pod of a cgroup.

use std::ops::Range;

/// Digits of a container's id (Docker, containerd, CRI-O, Podman).
const ID: usize = 64;

/// Where something runs, as far as it is known. Strangers chose all of these names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place<'n> {
    /// Path of the cgroup below the root of its hierarchy.
    pub path: Option<&'n [u8]>,
    /// Unit of systemd.
    pub service: Option<&'n [u8]>,
    /// Id of the container, whole.
    pub container: Option<&'n [u8]>,
    /// Its name.
    pub container_name: Option<&'n [u8]>,
    /// Namespace of its pod.
    pub namespace: Option<&'n [u8]>,
    /// Its pod.
    pub pod: Option<&'n [u8]>,
}

impl<'n> Place<'n> {
    /// The container, as short as its tools show it: its name, else the first 12 digits of its id.
    #[must_use]
    pub fn short_container(&self) -> Option<&'n [u8]> {
        self.container_name.or_else(|| self.container.map(|id| id.get(..12).unwrap_or(id)))
    }

    /// Whether anything is known that says more than a path.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.service.is_some() || self.container.is_some() || self.pod.is_some()
    }
}

/// The same, kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept([Option<Box<[u8]>>; 6]);

impl From<&Place<'_>> for Kept {
    fn from(place: &Place<'_>) -> Kept {
        let Place { path, service, container, container_name, namespace, pod } = *place;
        Kept(
            [path, service, container, container_name, namespace, pod]
                .map(|part| part.map(Box::from)),
        )
    }
}

impl Kept {
    /// The place.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        let [path, service, container, container_name, namespace, pod] =
            self.0.each_ref().map(|part| part.as_deref());
        Place { path, service, container, container_name, namespace, pod }
    }
}

/// What is kept of a cgroup. What is cut out of the path is looked for once: lines are written for each event.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    pub(super) path: Box<[u8]>,
    /// As `Given::encode` makes it.
    pub(super) given: Box<[u8]>,
    service: Range<u16>,
    container: Range<u16>,
}

impl Whereabouts {
    pub(super) fn at(path: &[u8]) -> Whereabouts {
        let range = |part: Option<&[u8]>| part.and_then(|part| range_in(path, part));
        Whereabouts {
            path: path.into(),
            given: Box::default(),
            service: range(service(path)).unwrap_or_default(),
            container: range(container(path)).unwrap_or_default(),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.path.len() + self.given.len()
    }

    pub(super) fn place(&self) -> Place<'_> {
        let cut = |range: &Range<u16>| {
            let part = self.path.get(usize::from(range.start)..usize::from(range.end));
            part.filter(|part| !part.is_empty())
        };
        let mut given = self.given.split(|&byte| byte == 0);
        let mut given = || given.next().filter(|name| !name.is_empty());
        Place {
            path: Some(&*self.path).filter(|path| !path.is_empty()),
            service: cut(&self.service),
            container: cut(&self.container),
            container_name: given(),
            namespace: given(),
            pod: given(),
        }
    }
}

/// Where a part of the path begins and ends in it.
fn range_in(path: &[u8], part: &[u8]) -> Option<Range<u16>> {
    let start = (part.as_ptr() as usize).checked_sub(path.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    Some(u16::try_from(start).ok()?..u16::try_from(end).ok()?)
}

/// The id of the container a cgroup's path belongs to: the last part of the path that holds 64 hex
/// digits (Docker, containerd, CRI-O, Podman), or the name after `lxc.payload.` or `/lxc/`.
#[must_use]
pub fn container(path: &[u8]) -> Option<&[u8]> {
    let mut parts = path.split(|&byte| byte == b'/').rev();
    parts.find_map(id).or_else(|| {
        let parts: Vec<_> = path.split(|&byte| byte == b'/').collect();
        parts
            .iter()
            .find_map(|part| part.strip_prefix(b"lxc.payload."))
            .or_else(|| parts.windows(2).find_map(|two| (two[0] == b"lxc").then_some(two[1])))
            .filter(|name| !name.is_empty())
    })
}

/// The 64 hex digits in a part of a path.
fn id(part: &[u8]) -> Option<&[u8]> {
    part.split(|byte| !byte.is_ascii_hexdigit()).find(|run| run.len() == ID)
}

/// The unit of systemd: the last service or scope of the path. Neither a container's own scope nor a person's session,
/// which say nothing about what runs there.
#[must_use]
fn service(path: &[u8]) -> Option<&[u8]> {
    path.split(|&byte| byte == b'/').rev().find(|part| {
        let service = part.ends_with(b".service") && !part.starts_with(b"user@");
        let session = part.starts_with(b"session-") || *part == b"init.scope";
        service || part.ends_with(b".scope") && !session && id(part).is_none()
    })
}

/// What a place is called as a workload: a pod's namespace and owner, else the unit of systemd, else the container.
/// `None` for what is no workload: sessions of people, and paths that say nothing.
#[must_use]
pub fn workload(place: &Place<'_>) -> Option<Vec<u8>> {
    if let (Some(namespace), Some(pod)) = (place.namespace, place.pod) {
        return Some([namespace, b"/", owner(pod)].concat());
    }
    place.service.or(place.short_container()).map(<[u8]>::to_vec)
}

/// The Deployment, StatefulSet, DaemonSet or Job that made a pod, by the pod's name: without the five letters that every
/// pod gets, and without the hash of a ReplicaSet, the number in a StatefulSet, the time of a CronJob. Kubernetes takes
/// letters without vowels for them (`rand.String`), so that what a person named is seldom cut.
fn owner(pod: &[u8]) -> &[u8] {
    let random =
        |word: &[u8]| word.iter().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(byte));
    let number = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let Some((name, last)) = cut(pod) else { return pod };
    if !(last.len() == 5 && random(last)) {
        return if number(last) { name } else { pod };
    }
    match cut(name) {
        Some((shorter, hash)) if (6..=10).contains(&hash.len()) && random(hash) => shorter,
        Some((shorter, time)) if time.len() >= 8 && number(time) => shorter,
        _ => name,
    }
}

/// What stands before and after the last dash.
fn cut(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = name.iter().rposition(|&byte| byte == b'-').filter(|&at| at != 0)?;
    Some((name.get(..at)?, name.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn containers_are_found_in_paths() {
        let id = "0123456789abcdef".repeat(4);
        let check = |path: String, expect: Option<&str>| {
            assert_eq!(container(path.as_bytes()), expect.map(str::as_bytes), "{path}");
        };
        check(format!("/docker/{id}"), Some(&id));
        check(format!("/system.slice/docker-{id}.scope"), Some(&id));
        check(format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), Some(&id));
        check(format!("/kubepods/besteffort/pod1/{id}"), Some(&id));
        check(format!("/machine.slice/libpod-{id}.scope/container"), Some(&id));
        check("/lxc/web1".to_owned(), Some("web1"));
        check("/lxc.payload.web1/system.slice".to_owned(), Some("web1"));
        check("/system.slice/nginx.service".to_owned(), None);
        check(format!("/x/{id}0"), None);
        check("/lxc/".to_owned(), None);
        check("/".to_owned(), None);
    }

    #[test]
    fn services_are_units_of_what_runs() {
        let id = "0123456789abcdef".repeat(4);
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(service(path.as_bytes()), expect.map(str::as_bytes), "{path}");
        };
        check("/system.slice/nginx.service", Some("nginx.service"));
        check("/system.slice/app.service/worker", Some("app.service"));
        let user = "/user.slice/user-1000.slice/user@1000.service";
        check(&format!("{user}/app.slice/x.service"), Some("x.service"));
        check("/machine.slice/run-u12.scope", Some("run-u12.scope"));
        // A container's scope is no service; that of the unit it runs in, or of one in it, is.
        check(&format!("/system.slice/docker-{id}.scope"), None);
        check(&format!("/system.slice/shop.service/libpod-payload-{id}"), Some("shop.service"));
        check(&format!("/docker/{id}/system.slice/web.service"), Some("web.service"));
        // Of a session the process says more.
        check("/user.slice/user-0.slice/session-3.scope", None);
        check(&format!("{user}/init.scope"), None);
        check("/init.scope", None);
        check("/mine/too", None);
        check("/", None);
    }

    #[test]
    fn workloads_are_owners_of_pods_then_units_then_containers() {
        let id = "0123456789abcdef".repeat(4);
        let check = |path: &str, given: [&str; 3], expect: Option<&str>| {
            let given = given.join("\0") + "\0";
            let place =
                Whereabouts { given: given.as_bytes().into(), ..Whereabouts::at(path.as_bytes()) };
            let name = workload(&place.place()).map(String::from_utf8);
            assert_eq!(name, expect.map(|name| Ok(name.to_owned())), "{path} {given:?}");
        };
        let none = ["", "", ""];
        check("/system.slice/nginx.service", none, Some("nginx.service"));
        check(&format!("/docker/{id}"), none, Some("0123456789ab"));
        check(&format!("/docker/{id}"), ["web", "", ""], Some("web"));
        check(
            &format!("/system.slice/shop.service/libpod-payload-{id}"),
            none,
            Some("shop.service"),
        );
        check("/lxc/web", none, Some("web"));
        check("/mine/too", none, None);
        check(
            &format!("/kubepods/pod1/{id}"),
            ["app", "shop", "web-6d4cf56db6-x7k2p"],
            Some("shop/web"),
        );
    }

    #[test]
    fn pods_say_who_made_them() {
        let check = |pod: &str, expect: &str| {
            assert_eq!(owner(pod.as_bytes()), expect.as_bytes(), "{pod}");
        };
        check("web-6d4cf56db6-x7k2p", "web");
        check("coredns-76f75df574-4qkzl", "coredns");
        check("db-0", "db");
        check("node-exporter-x7k2p", "node-exporter");
        check("backup-28391820-x7k2p", "backup");
        // What a person named.
        check("mysql", "mysql");
        check("my-proxy", "my-proxy");
        check("redis-cache", "redis-cache");
        check("kube-apiserver-node", "kube-apiserver-node");
        check("-x7k2p", "-x7k2p");
        check("web-", "web-");
        check("", "");
    }

    proptest! {
        #[test]
        fn no_path_panics(path in proptest::collection::vec(any::<u8>(), 0..200)) {
            let whereabouts = Whereabouts::at(&path);
            let place = whereabouts.place();
            prop_assert_eq!(place.container, container(&path));
            prop_assert_eq!(place.service, service(&path));
            let _ = workload(&place);
            let _ = owner(&path);
        }
    }
}
