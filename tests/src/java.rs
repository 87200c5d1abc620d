//! The Java programs of `tests/fixtures/java`, and C's of `tests/fixtures/native`, compiled and run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::netns::Netns;
use crate::pace::is_slow;

/// A JVM on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where Debian has them; `cargo xtask setup --tests` installs them.
const JARS: &str = "/usr/share/java";
const WANTED: [&str; 26] = [
    "tomcat10-catalina",
    "tomcat10-coyote",
    "tomcat10-util",
    "tomcat10-util-scan",
    "tomcat10-juli",
    "tomcat10-servlet-api",
    "tomcat10-annotations-api",
    "tomcat10-jni",
    "tomcat10-api",
    "tomcat10-el-api",
    "tomcat10-jsp-api",
    "tomcat10-jaspic-api",
    "tomcat10-jdbc",
    "httpclient",
    "httpcore",
    "commons-logging",
    "commons-codec",
    "HikariCP",
    "postgresql",
    "slf4j-api",
    "slf4j-nop",
    "netty-buffer",
    "netty-common",
    "netty-resolver",
    "netty-transport",
    "jctools-core",
];

/// Written after what it stands beside.
const STAMP: &str = ".built";

fn fixtures(kind: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).join(kind)
}

fn built(kind: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fixtures")).join(kind)
}

/// How the C fixture is compiled: with what `perf` and eBPF follow a stack by, and without.
pub const WITH_FRAME_POINTERS: &[&str] = &["-O2", "-g", "-fno-omit-frame-pointer"];
/// As most distributions compile.
pub const WITHOUT_FRAME_POINTERS: &[&str] = &["-O2", "-fomit-frame-pointer"];

/// Compiles all that can be compiled here: for a machine that has no compilers.
///
/// # Errors
/// When a compiler does not like it.
pub fn compile_all() -> Result<()> {
    compile_java()?;
    if native_ready() {
        native("crawler", WITH_FRAME_POINTERS)?;
        native("crawler", WITHOUT_FRAME_POINTERS)?;
    }
    Ok(())
}

/// Compiles the Java programs, where that can be done here.
///
/// # Errors
/// When javac does not like it.
pub fn compile_java() -> Result<()> {
    if ready(&[]) {
        class_path()?;
    }
    Ok(())
}

/// Compiles the C programs below a folder, with a compiler of one's choice and these flags besides.
///
/// # Errors
/// When the compiler does not like it.
pub fn compile_native(folder: &Path, cc: &str, more: &[&str]) -> Result<()> {
    for flags in [WITH_FRAME_POINTERS, WITHOUT_FRAME_POINTERS] {
        compile(&folder.join(flags.concat()), "crawler", cc, &[flags, more].concat())?;
    }
    Ok(())
}

/// Whether the C fixture can be run here; says why not.
#[must_use]
pub fn native_ready() -> bool {
    let source = fixtures("native/crawler.c");
    let all = [WITH_FRAME_POINTERS, WITHOUT_FRAME_POINTERS];
    let compiled = |flags: &[&str]| is_newer(&native_dir(flags), std::slice::from_ref(&source));
    crate::ready(if all.into_iter().all(compiled) { &[] } else { &["cc"] })
}

/// Whether the Java fixtures can be compiled, where they are not, and run here; says why not.
#[must_use]
pub fn ready(tools: &[&str]) -> bool {
    let missing = WANTED.iter().find(|jar| !jar_path(jar).is_file());
    if let Some(jar) = missing {
        println!("skipped: needs {}", jar_path(jar).display());
        return false;
    }
    let compiled = sources().is_ok_and(|files| is_newer(&built("java"), &files));
    let compiler: &[&str] = if compiled { &[] } else { &["javac"] };
    crate::ready(&[&["java"], compiler, tools].concat())
}

fn jar_path(name: &str) -> PathBuf {
    Path::new(JARS).join(name).with_extension("jar")
}

/// Where the compiled classes are.
#[must_use]
pub fn classes() -> String {
    built("java").display().to_string()
}

/// The class path, compiled first where a source is newer. Tests in other processes wait meanwhile.
///
/// # Errors
/// When javac does not like it.
pub fn class_path() -> Result<String> {
    let classes = built("java");
    let jars: Vec<String> = WANTED.iter().map(|jar| jar_path(jar).display().to_string()).collect();
    let path = format!("{}:{}", classes.display(), jars.join(":"));
    let files = sources()?;
    once(&classes, &files, || {
        let mut javac = Command::new("javac");
        // The oldest JDK that tests run with.
        javac.args(["--release", "11"]);
        javac.args(["-g", "-nowarn", "-Xlint:none", "-cp", &path, "-d"]).arg(&classes).args(&files);
        run(javac)
    })?;
    Ok(path)
}

fn sources() -> Result<Vec<PathBuf>> {
    fs::read_dir(fixtures("java/com/acme"))?.map(|entry| Ok(entry?.path())).collect()
}

fn native_dir(flags: &[&str]) -> PathBuf {
    built("native").join(flags.concat())
}

/// A C program, compiled with these flags, where its source is newer.
///
/// # Errors
/// When the compiler does not like it.
pub fn native(name: &str, flags: &[&str]) -> Result<PathBuf> {
    compile(&native_dir(flags), name, "cc", flags)
}

fn compile(dir: &Path, name: &str, cc: &str, flags: &[&str]) -> Result<PathBuf> {
    let source = fixtures("native").join(name).with_extension("c");
    let program = dir.join(name);
    once(dir, std::slice::from_ref(&source), || {
        let mut cc = Command::new(cc);
        cc.args(flags).arg("-o").arg(&program).arg(&source);
        run(cc)
    })?;
    Ok(program)
}

fn once(dir: &Path, sources: &[PathBuf], build: impl FnOnce() -> Result<()>) -> Result<()> {
    fs::create_dir_all(dir)?;
    let lock = File::create(dir.join(".lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if is_newer(dir, sources) {
        return Ok(());
    }
    build()?;
    File::create(dir.join(STAMP))?;
    Ok(())
}

/// Whether what is built there is from the sources as they are now.
fn is_newer(dir: &Path, sources: &[PathBuf]) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    modified(&dir.join(STAMP)).is_ok_and(|built| {
        // An archive keeps whole seconds.
        sources.iter().all(|source| modified(source).is_ok_and(|source| source <= built))
    })
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

/// The line of a fixture that has `text`, counted from 1: what a stack should say.
///
/// # Errors
/// When there is none, or several.
pub fn line_of(class: &str, text: &str) -> Result<usize> {
    let path = fixtures("java/com/acme").join(class).with_extension("java");
    let source = fs::read_to_string(&path)?;
    let mut lines = source.lines().enumerate().filter(|(_, line)| line.contains(text));
    let found = lines.next().with_context(|| format!("{}: no {text}", path.display()))?;
    ensure!(lines.next().is_none(), "{}: {text} is there twice", path.display());
    Ok(found.0 + 1)
}

/// A program that runs until it is dropped, and what it says.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    /// What it has said so far.
    pub said: Vec<String>,
}

impl Program {
    /// Starts it inside `netns`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(netns: &Netns, mut command: Command) -> Result<Program> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = netns.spawn(&mut command)?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take().context("its stdout")?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Program { child, lines, said: Vec::new() })
    }

    /// A class of the fixtures, in a JVM with these options.
    ///
    /// # Errors
    /// When it cannot be compiled or started.
    pub fn java(netns: &Netns, options: &[&str], class: &str, args: &[&str]) -> Result<Program> {
        Program::start(netns, java(options, class, args)?)
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line.
    ///
    /// # Errors
    /// When it does not come in time, or the program ends.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + if is_slow() { 3 * PATIENCE } else { PATIENCE };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                bail!("it did not say {text:?}, but {:?}", self.said);
            };
            let found = line == text;
            self.said.push(line);
            if found {
                return Ok(());
            }
        }
    }

    /// What it has said since, without waiting.
    pub fn said_since(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When nobody knows.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A change of user takes away from a child that it ends with its parent.
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Some(pid) = child.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A JVM that is killed leaves its socket, as it does with any tool.
        let _ = fs::remove_file(format!("/tmp/.java_pid{}", self.child.id()));
    }
}

/// The command that runs a class of the fixtures.
///
/// # Errors
/// When it cannot be compiled.
pub fn java(options: &[&str], class: &str, args: &[&str]) -> Result<Command> {
    java_of(Path::new("java"), options, class, args)
}

/// The same with a launcher of one's choice.
///
/// # Errors
/// When it cannot be compiled.
pub fn java_of(launcher: &Path, options: &[&str], class: &str, args: &[&str]) -> Result<Command> {
    let path = class_path()?;
    let mut command = Command::new(launcher);
    command
        // Small and quick to start: several run at a time.
        .args(["-Xmx96m", "-Xshare:auto", "-XX:+UseSerialGC", "-XX:-UsePerfData"])
        .args(options)
        .args(["-cp", &path])
        .arg(format!("com.acme.{class}"))
        .args(args);
    Ok(command)
}
