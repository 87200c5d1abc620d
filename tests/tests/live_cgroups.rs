//! Cgroups of version 1, of version 2, and both: what is shown of a socket's, and what `--cgroup`
//! finds. Each test has mounts of its own; the hierarchies are the kernel's, so names have our pid.

use std::fs;
use std::process::{Command, Output, id};

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::tcptrail::{Event, binary};
use tests::traffic::listen;
use tests::{kernel, ready};

/// As Docker names a container's cgroup.
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Nothing at the usual place but what is mounted next.
const EMPTY: &str = "mount -t tmpfs none /sys/fs/cgroup";

/// A hierarchy of version 1 without controllers, as systemd has one.
fn version_1() -> String {
    let name = format!("none,name=tt-{}-{:?}", id(), std::thread::current().id());
    let name = name.replace(['(', ')'], "");
    format!(
        "mkdir /sys/fs/cgroup/one; mount -t cgroup -o {name} none /sys/fs/cgroup/one
        one=/sys/fs/cgroup/one/docker/{CONTAINER}; mkdir -p $one; echo $$ >$one/cgroup.procs"
    )
}

fn version_2(at: &str) -> String {
    format!("mkdir -p {at}; mount -t cgroup2 none {at}; two={at}")
}

/// Leaves the cgroups as they were.
const TIDY: &str = "
    if [ -n \"$two\" ]; then
        cat $two/cgroup.procs >/dev/null
        echo $$ >$home/cgroup.procs
        rmdir $two/$mine
    fi
    if [ -n \"$one\" ]; then
        echo $$ >/sys/fs/cgroup/one/cgroup.procs
        rmdir $one ${one%/*}
    fi";

/// Whether `doctor` is asked, too. It tries everything, which takes an emulated processor long.
#[derive(Clone, Copy, PartialEq)]
enum Doctor {
    Asked,
    NotAsked,
}

/// What tcptrail says in bash's mounts: `list`, `list --cgroup` of the new one, `doctor`.
struct Said {
    list: Vec<Event>,
    filtered: Vec<Event>,
    doctor: Option<Event>,
    /// What each `--cgroup` that cannot work said, and its exit code.
    refused: Vec<(i32, String)>,
}

/// Runs bash with mounts of its own. It connects once where it is (the descriptor is 3), and once more
/// (4) from a new cgroup where there is version 2.
fn bash(
    netns: &Netns,
    port: u16,
    mounts: &str,
    doctor: Doctor,
    refused: &[&str],
) -> Result<Option<Said>> {
    let asked = if doctor == Doctor::Asked { "" } else { "false &&" };
    let tcptrail = binary();
    let tcptrail = tcptrail.display();
    let mine = format!("tt-{}-{port}", id());
    let mut script = format!(
        "mine={mine} one= two=
        {EMPTY} || exit 77
        {mounts} || exit 77
        exec 3<>/dev/tcp/127.0.0.1/{port} || exit 1
        if [ -n \"$two\" ]; then
            home=$two$(sed -n 's/^0:://p' /proc/self/cgroup)
            mkdir $two/$mine || exit 77
            echo $$ >$two/$mine/cgroup.procs || exit 77
            exec 4<>/dev/tcp/127.0.0.1/{port} || exit 1
        fi
        {tcptrail} list --json --port {port} || exit 2
        echo @@; {asked} {tcptrail} doctor --json | grep '\"name\":\"cgroups\"' || echo '{{}}'
        echo @@; [ -z \"$two\" ] || {tcptrail} list --json --cgroup $mine --port {port} || exit 3\n"
    );
    for path in refused {
        script.push_str(&format!(
            "echo @@; echo \"$({tcptrail} list --cgroup {path} 2>&1 >/dev/null; echo $?)\" | tr '\\n' ' '\n"
        ));
    }
    script.push_str("exec 3>&- 4>&-\n");
    script.push_str(TIDY);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", &script]);
    let Output { status, stdout, stderr } = netns.output(command)?;
    let (stdout, stderr) = (String::from_utf8(stdout)?, String::from_utf8_lossy(&stderr));
    if status.code() == Some(77) {
        println!("skipped: cannot mount hierarchies of cgroups here: {stderr}");
        return Ok(None);
    }
    ensure!(status.success(), "{status}: {stdout}{stderr}");
    let mut parts = stdout.split("@@\n");
    let mut part = || parts.next().with_context(|| format!("too few parts: {stdout}"));
    let events = |text: &str| -> Result<Vec<Event>> {
        let lines = text.lines().filter(|line| !line.is_empty());
        let events: Vec<Event> =
            lines.map(|line| Ok(Event(serde_json::from_str(line)?))).collect::<Result<_>>()?;
        let sockets =
            events.into_iter().filter(|event| ["socket", "check"].contains(&event.kind()));
        Ok(sockets.filter(|event| event.text("role") != "listener").collect())
    };
    let list = events(part()?)?;
    let doctor = events(part()?)?.pop();
    let filtered = events(part()?)?;
    let refused = refused
        .iter()
        .map(|_| {
            let text = part()?.trim();
            let (words, code) = text.rsplit_once(' ').context("no exit code")?;
            Ok((code.parse()?, words.to_owned()))
        })
        .collect::<Result<_>>()?;
    Ok(Some(Said { list, filtered, doctor, refused }))
}

/// The one client among the sockets, whose descriptor is this.
fn client(sockets: &[Event], fd: u64) -> Result<&Event> {
    let mut all = sockets.iter().filter(|event| event.number("fd") == Some(fd));
    let one = all.next().with_context(|| format!("no descriptor {fd}: {sockets:?}"))?;
    ensure!(all.next().is_none(), "descriptor {fd} twice: {sockets:?}");
    Ok(one)
}

/// The path that the kernel itself has for this process in version 2.
fn ours() -> Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(path.context("no version 2 in this kernel")?.to_owned())
}

/// The cgroup is this; before 5.15 the kernel may not tell, and then nothing is said.
fn check_cgroup(socket: &Event, path: Option<&str>) -> Result<()> {
    let told = &socket.0["cgroup"];
    let unknown = told.is_null() && kernel() < (5, 15);
    ensure!(unknown || told.as_str() == path, "cgroup is not {path:?}: {socket:?}");
    // The name of the container is in the hierarchy of version 1 only.
    ensure!(socket.text("container") != CONTAINER, "{socket:?}");
    Ok(())
}

#[test]
fn with_version_1_alone_cgroups_have_no_names() -> Result<()> {
    if !ready(&["unshare", "mount", "bash"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let inside = format!("/sys/fs/cgroup/one/docker/{CONTAINER}");
    let Some(said) = bash(&netns, port, &version_1(), Doctor::Asked, &[&inside, "docker"])? else {
        return Ok(());
    };
    check_cgroup(client(&said.list, 3)?, None)?;
    for (code, words) in &said.refused {
        ensure!(*code == 2 && words.contains("no cgroup version 2"), "{code}: {words}");
    }
    if kernel() >= (5, 15) {
        let doctor = said.doctor.context("no line on cgroups")?;
        ensure!(doctor.truth("ok") == Some(false), "{doctor:?}");
        ensure!(doctor.text("detail").contains("have no names"), "{doctor:?}");
    }
    Ok(())
}

#[test]
fn with_both_versions_it_is_that_of_version_2() -> Result<()> {
    if !ready(&["unshare", "mount", "bash"]) {
        return Ok(());
    }
    let mounts = format!("{}; {}", version_1(), version_2("/sys/fs/cgroup/unified"));
    check_version_2(&mounts, Doctor::NotAsked)
}

#[test]
fn version_2_is_found_where_it_is_mounted() -> Result<()> {
    if !ready(&["unshare", "mount", "bash"]) {
        return Ok(());
    }
    check_version_2(&version_2("/sys/fs/cgroup/some/where"), Doctor::Asked)
}

fn check_version_2(mounts: &str, doctor: Doctor) -> Result<()> {
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let inside = format!("/sys/fs/cgroup/one/docker/{CONTAINER}");
    let Some(said) = bash(&netns, port, mounts, doctor, &[&inside])? else { return Ok(()) };
    let mine = format!("/tt-{}-{port}", id());
    check_cgroup(client(&said.list, 3)?, Some(&ours()?))?;
    check_cgroup(client(&said.list, 4)?, Some(&mine))?;
    let (code, words) = said.refused.first().context("one refused")?;
    ensure!(*code == 2 && words.contains("there is no cgroup"), "{code}: {words}");
    if kernel() >= (5, 15) {
        ensure!(said.filtered.len() == 1, "{:?}", said.filtered);
        check_cgroup(client(&said.filtered, 4)?, Some(&mine))?;
        if doctor == Doctor::Asked {
            let doctor = said.doctor.context("no line on cgroups")?;
            ensure!(doctor.truth("ok") == Some(true), "{doctor:?}");
            ensure!(doctor.text("detail").contains("/sys/fs/cgroup/some/where"), "{doctor:?}");
        }
    }
    Ok(())
}

/// In a container with a cgroup namespace of its own the root is not the kernel's.
#[test]
fn in_a_cgroup_namespace_a_filter_finds_what_is_inside() -> Result<()> {
    if !ready(&["unshare", "mount", "bash"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listeners = [(); 3].map(|()| listen(&netns, "127.0.0.1:0"));
    let mut ports = Vec::new();
    for listener in &listeners {
        let listener = listener.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        ports.push(listener.local_addr()?.port());
    }
    let [itself, below, outside] = ports[..] else { unreachable!("three") };
    let mine = format!("tt-{}-{itself}", id());
    let tcptrail = binary();
    let tcptrail = tcptrail.display();
    let inside = format!(
        "umount /sys/fs/cgroup/two; mount -t cgroup2 none /sys/fs/cgroup/two || exit 77
        cd /sys/fs/cgroup/two; mkdir -p inner/deep || exit 77
        exec 5< <(exec {tcptrail} tail --json --cgroup inner)
        read -r line <&5; echo \"$line\"
        (echo $BASHPID >inner/cgroup.procs; exec 3<>/dev/tcp/127.0.0.1/{itself})
        (echo $BASHPID >inner/deep/cgroup.procs; exec 3<>/dev/tcp/127.0.0.1/{below})
        (exec 3<>/dev/tcp/127.0.0.1/{outside})
        kill -INT $!; cat <&5; rmdir inner/deep inner"
    );
    let script = format!(
        "{EMPTY} && mkdir -p /sys/fs/cgroup/two && mount -t cgroup2 none /sys/fs/cgroup/two || exit 77
        two=/sys/fs/cgroup/two; home=$two$(sed -n 's/^0:://p' /proc/self/cgroup)
        mkdir -p $two/{mine}/outer && echo $$ >$two/{mine}/outer/cgroup.procs || exit 77
        unshare --cgroup bash -c '{inside}'; code=$?
        umount $two 2>/dev/null; [ -e $two/{mine} ] || mount -t cgroup2 none $two
        echo $$ >$home/cgroup.procs; rmdir $two/{mine}/outer $two/{mine}; exit $code"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", &script]);
    let output = netns.output(command)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        println!("skipped: cannot mount hierarchies of cgroups here: {stderr}");
        return Ok(());
    }
    let stdout = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {stdout}{stderr}", output.status);
    let told = |port: u16| stdout.contains(&format!("127.0.0.1:{port}\""));
    ensure!(stdout.contains("\"start\""), "it did not start: {stdout}{stderr}");
    // Debian's late 5.10 has cgroups of sockets, others before 5.15 may not.
    ensure!(told(itself) || kernel() < (5, 15), "not found itself: {stdout}{stderr}");
    ensure!(told(below) || kernel() < (6, 1), "not found below: {stdout}{stderr}");
    ensure!(!told(outside), "found outside: {stdout}");
    Ok(())
}

/// Names that people gave: of a unit, of a container of Docker, and of a pod, with the files where the engines and kubelet
/// have them. The files are mounted for this test only; cgroups, sockets and paths are real.
#[test]
fn services_containers_and_pods_have_names_and_filters() -> Result<()> {
    if !ready(&["unshare", "mount", "bash"]) || kernel() < (5, 15) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let mine = format!("tt-{}-{port}", id());
    let tcptrail = binary();
    let tcptrail = tcptrail.display();
    let pod = CONTAINER.replace("0123", "3210");
    let uid = "8f3b1c1e_4c5d_4e6f_8a9b_0c1d2e3f4a5b";
    let list = format!("{tcptrail} list --json --port {port}");
    let script = format!(
        "{EMPTY} && mount -t tmpfs none /var/log && mount -t tmpfs none /var/lib || exit 77
        {} || exit 77
        docker=/var/lib/docker/containers/{CONTAINER}
        mkdir -p /var/log/containers $docker
        ln -s /nowhere /var/log/containers/web-6d4cf56db6-x7k2p_shop_app-{pod}.log
        echo '{{\"Name\":\"/cache\"}}' >$docker/config.v2.json
        home=$two$(sed -n 's/^0:://p' /proc/self/cgroup)
        one=$two/{mine}/kubepods-burstable-pod{uid}.slice/cri-containerd-{pod}.scope
        all=\"$one $two/{mine}/docker-{CONTAINER}.scope $two/{mine}/{mine}.service $two/{mine}/late-{mine}.service\"
        mkdir -p $all || exit 77
        rmdir $two/{mine}/late-{mine}.service
        fd=3; for group in $all; do
            [ -d $group ] || continue
            echo $$ >$group/cgroup.procs || exit 77
            eval \"exec $fd<>/dev/tcp/127.0.0.1/{port}\" || exit 1
            fd=$((fd + 1))
        done
        echo $$ >$home/cgroup.procs
        {list}; echo @@
        {list} --pod 'shop/web-*'; echo @@
        {list} --container cache; echo @@; {list} --container {}; echo @@
        {list} --service {mine}; echo @@; {list} --service 'no-*'; echo @@
        {tcptrail} leaks --json --older 1ms --duration 1s --no-attach --service {mine}; echo @@
        {tcptrail} kill --yes --json --service {mine}; echo @@
        exec 7< <(exec {tcptrail} tail --json --service 'late-*'); tail=$!
        read -r line <&7
        mkdir $two/{mine}/late-{mine}.service
        (echo $BASHPID >$two/{mine}/late-{mine}.service/cgroup.procs
        for try in {{1..150}}; do exec 8<>/dev/tcp/127.0.0.1/{port}; exec 8>&-; sleep 0.1; done) &
        read -t 15 -r line <&7; echo \"$line\"
        kill -INT $tail; kill $!; wait
        for try in {{1..100}}; do rmdir $two/{mine}/late-{mine}.service 2>/dev/null && break; sleep 0.1; done
        rmdir ${{all% *}} ${{one%/*}} $two/{mine}",
        version_2("/sys/fs/cgroup/unified"),
        &CONTAINER[..12],
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", &script]);
    let Output { status, stdout, stderr } = netns.output(command)?;
    let (stdout, stderr) = (String::from_utf8(stdout)?, String::from_utf8_lossy(&stderr));
    if status.code() == Some(77) {
        println!("skipped: cannot mount hierarchies of cgroups here: {stderr}");
        return Ok(());
    }
    ensure!(status.success(), "{status}: {stdout}{stderr}");
    let parts = stdout.split("@@\n").map(|part| {
        let events = part.lines().map(|line| Ok(Event(serde_json::from_str(line)?)));
        let events = events.collect::<Result<Vec<Event>>>()?.into_iter();
        // Those of the shell: the listener is this test's.
        let theirs = |event: &Event| {
            ["socket", "transition", "leak", "killed"].contains(&event.kind())
                && event.text("role") != "listener"
        };
        Ok(events.filter(theirs).collect::<Vec<_>>())
    });
    let [all, by_pod, by_name, by_id, by_service, none, leaks, killed, late] =
        &parts.collect::<Result<Vec<_>>>().with_context(|| format!("{stdout}{stderr}"))?[..]
    else {
        anyhow::bail!("not nine parts: {stdout}{stderr}");
    };
    let unit = format!("{mine}.service");
    let expected = [
        (3, ["", "app", "web-6d4cf56db6-x7k2p", "shop"]),
        (4, ["", "cache", "", ""]),
        (5, [&unit, "", "", ""]),
    ];
    for (fd, names) in expected {
        let socket = client(all, fd)?;
        let told =
            ["service", "container_name", "pod", "k8s_namespace"].map(|key| socket.text(key));
        ensure!(told == names, "descriptor {fd}: {told:?}, not {names:?}: {socket:?}");
    }
    for (what, found, fd) in [
        ("--pod", by_pod, Some(3)),
        ("--container NAME", by_name, Some(4)),
        ("--container ID", by_id, Some(4)),
        ("--service", by_service, Some(5)),
        ("--service of nobody", none, None),
    ] {
        let fds: Vec<_> = found.iter().map(|event| event.number("fd")).collect();
        ensure!(fds == Vec::from_iter(fd.map(Some)), "{what}: {fds:?}: {found:?}");
    }
    let leak = leaks.iter().find(|event| event.kind() == "leak").context("no leak")?;
    ensure!(leak.text("service") == unit && leak.text("cgroup").ends_with(&unit), "{leak:?}");
    // Where sockets can be ended at all.
    if let Some(killed) = killed.iter().find(|event| event.kind() == "killed") {
        ensure!(killed.text("service") == unit, "{killed:?}");
    }
    let late = late.first().context("nothing of a service that began later")?;
    ensure!(late.text("service") == format!("late-{unit}"), "{late:?}");
    Ok(())
}
