use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

const ONE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const TWO: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const UID: &str = "8f3b1c1e-4c5d-4e6f-8a9b-0c1d2e3f4a5b";

/// A root of its own for each test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Root {
        let path = std::env::temp_dir().join(format!("tcptrail-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Root(path)
    }

    fn write(&self, path: &str, text: &[u8]) -> &Root {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
        self
    }

    /// What the container of this cgroup is called: container, namespace, pod.
    fn names(&self, path: &str) -> [String; 3] {
        let mut containers = Containers::below(&self.0);
        let named = containers.named([(7, path.as_bytes())].into_iter());
        let given = named.map(|(_, given)| given.clone()).next().unwrap_or_default();
        [given.container, given.namespace, given.pod].map(Option::unwrap_or_default)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_engine_says_its_containers_names() {
    let check = |file: &str, text: &str, expect: [&str; 3]| {
        let root = Root::new("engines");
        root.write(file, text.as_bytes());
        assert_eq!(
            root.names(&format!("/system.slice/docker-{ONE}.scope")),
            expect,
            "{file}: {text}"
        );
        assert_eq!(root.names(&format!("/docker/{ONE}")), expect, "{file}: {text}");
        // Another's name is not taken for it.
        assert_eq!(root.names(&format!("/docker/{TWO}")), ["", "", ""], "{file}: {text}");
    };
    let docker = format!("var/lib/docker/containers/{ONE}/config.v2.json");
    check(&docker, r#"{"ID":"x","Name":"/web","State":{"Pid":1}}"#, ["web", "", ""]);
    let kubernetes = format!(r#"{{"Name":"/k8s_app_web-0_shop_{UID}_0"}}"#);
    check(&docker, &kubernetes, ["app", "shop", "web-0"]);
    check(&docker, r#"{"Name":"/k8s_app"}"#, ["k8s_app", "", ""]);
    let podman = "var/lib/containers/storage/overlay-containers/containers.json";
    let list = format!(r#"[{{"id":"{TWO}"}},{{"id":"{ONE}","names":["db"],"layer":"x"}}]"#);
    check(podman, &list, ["db", "", ""]);
    check(
        "home/eve/.local/share/containers/storage/vfs-containers/volatile-containers.json",
        &list,
        ["db", "", ""],
    );
    let crio = format!(r#"[{{"id":"{ONE}","names":["k8s_app_web-0_shop_{UID}_1"]}}]"#);
    check(podman, &crio, ["app", "shop", "web-0"]);
    let containerd =
        format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ONE}/config.json");
    let annotations = r#"{"annotations":{"io.kubernetes.cri.container-name":"app","x":7,
        "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
    check(&containerd, annotations, ["app", "shop", "web-0"]);
    check(&containerd, r#"{"annotations":{"nerdctl/name":"cache"}}"#, ["cache", "", ""]);
    // What makes no sense is as if it were not there.
    for text in ["", "[]", "{", r#"{"Name":7}"#, r#"{"Name":"/"}"#, r#"{"annotations":{}}"#] {
        check(&docker, text, ["", "", ""]);
        check(podman, text, ["", "", ""]);
        check(&containerd, text, ["", "", ""]);
    }
}

#[test]
fn docker_may_keep_its_data_elsewhere() {
    let root = Root::new("elsewhere");
    root.write("etc/docker/daemon.json", br#"{"data-root":"/srv/docker"}"#);
    root.write(&format!("srv/docker/containers/{ONE}/config.v2.json"), br#"{"Name":"/web"}"#);
    assert_eq!(root.names(&format!("/docker/{ONE}")), ["web", "", ""]);
}

#[test]
fn kubelets_links_say_pod_namespace_and_container_with_either_driver() {
    let root = Root::new("kubelet");
    let links = root.0.join("var/log/containers");
    fs::create_dir_all(&links).expect("a folder");
    let log = format!("web-6d4cf56db6-x7k2p_shop_app-main-{ONE}.log");
    // Where the log is does not matter: the link may lead nowhere.
    symlink("/nowhere", links.join(log)).expect("a link");
    for name in ["x.log", "a_b_c.log", "a_b_c-d.log", "_b_c-.log", &format!("a_b_c_d-{TWO}.log")] {
        fs::write(links.join(name), b"").expect("a file");
    }
    fs::create_dir_all(root.0.join(format!("var/log/pods/shop_web-6d4cf56db6-x7k2p_{UID}")))
        .expect("a folder");
    let app = ["app-main", "shop", "web-6d4cf56db6-x7k2p"];
    // The container that holds the pod's namespaces has no log.
    let pause = ["", "shop", "web-6d4cf56db6-x7k2p"];
    let uid = UID.replace('-', "_");
    let slice =
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice");
    for (id, expect) in [(ONE, app), (TWO, pause)] {
        assert_eq!(root.names(&format!("/kubepods/burstable/pod{UID}/{id}")), expect);
        assert_eq!(root.names(&format!("{slice}/cri-containerd-{id}.scope")), expect);
        assert_eq!(root.names(&format!("{slice}/crio-{id}.scope/container")), expect);
        // A cluster in a container.
        assert_eq!(root.names(&format!("/docker/{TWO}/kubepods/pod{UID}/{id}")), expect);
    }
    assert_eq!(root.names(&format!("/kubepods/podx/{TWO}")), ["", "", ""]);
}

#[test]
fn a_name_is_looked_for_until_it_is_there_and_never_again() {
    let root = Root::new("cache");
    let file = format!("var/lib/docker/containers/{ONE}/config.v2.json");
    let path = format!("/docker/{ONE}");
    let mut containers = Containers::below(&root.0);
    let name = |containers: &mut Containers| {
        let mut named = containers.named([(7, path.as_bytes())].into_iter());
        named.next().and_then(|(_, given)| given.container.clone())
    };
    assert_eq!(name(&mut containers), None);
    root.write(&file, br#"{"Name":"/web"}"#);
    assert_eq!(name(&mut containers).as_deref(), Some("web"));
    root.write(&file, br#"{"Name":"/other"}"#);
    assert_eq!(name(&mut containers).as_deref(), Some("web"));
    // A cgroup that is gone is forgotten.
    assert_eq!(containers.named([].into_iter()).count(), 0);
    assert_eq!(name(&mut containers).as_deref(), Some("other"));
    // What has no name is not looked for without end.
    let _ = fs::remove_dir_all(root.0.join("var"));
    containers = Containers::below(&root.0);
    for _ in 0..MOST_ROUNDS {
        assert_eq!(name(&mut containers), None);
    }
    root.write(&file, br#"{"Name":"/late"}"#);
    assert_eq!(name(&mut containers), None);
}

#[test]
fn files_of_strangers_are_neither_waited_for_nor_read_without_end() {
    let root = Root::new("hostile");
    let file = format!("var/lib/docker/containers/{ONE}/config.v2.json");
    root.write(&file, b"");
    let path = root.0.join(&file);
    let check = |what: &str| {
        assert_eq!(root.names(&format!("/docker/{ONE}")), ["", "", ""], "{what}");
        fs::remove_file(&path).expect("removed");
    };
    let big = fs::File::create(&path).expect("a file");
    big.set_len(1 << 40).expect("a file with a hole");
    check("a file of a terabyte");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    check("a pipe that nobody writes");
    symlink("/dev/zero", &path).expect("a link");
    check("a device without end");
    // Deeper than a parser's stack.
    fs::write(&path, "[".repeat(1 << 20)).expect("a file");
    check("a million brackets");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_file_and_no_path_panics(text in ".{0,80}", path in "[-_./a-z0-9]{0,80}") {
        let root = Root::new("random");
        root.write(&format!("var/lib/docker/containers/{ONE}/config.v2.json"), text.as_bytes());
        root.write(
            "var/lib/containers/storage/x-containers/containers.json",
            format!(r#"[{{"id":"{TWO}","names":["k8s_{path}"]}}]"#).as_bytes(),
        );
        let _ = root.names(&format!("/{path}/{ONE}"));
        let _ = root.names(&format!("/{path}/pod{path}/{TWO}"));
        let _ = kubelet::pod_uid(path.as_bytes());
    }
}
