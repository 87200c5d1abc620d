//! Names a whole stack: each frame by whatever knows its kind of code.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracer_common::stack::{CodeRange, RawFrame, flags};

use crate::engine::book::Raw;
use crate::frame::{Frame, Named, opener};
use crate::java::attach as jvm_attach;
use crate::java::code_cache::Blob;
use crate::java::hotspot::HotSpot;
use crate::java::methods::Position;
use crate::java::perf_map::{Code, PerfMap};
use crate::native::process::{Identity, Process};
use crate::native::symbols::Native;
use crate::symbolize::unwind::unwind;

/// A JVM is asked for its perf map again after this time at the soonest, and after twice as long when
/// that did not help.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(80);
/// Mappings are read anew after this time when an address is in none.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Processes kept.
const MOST_PROCESSES: usize = 1024;

/// What is known of a process.
struct Known {
    process: Process,
    looked: Instant,
    hotspot: Option<Result<HotSpot, String>>,
    map: PerfMap,
    /// When the JVM may be asked for its map again.
    ask_at: Option<Instant>,
    pause: Duration,
    refused: Option<String>,
}

/// Names stacks of many processes.
pub(crate) struct Symbolizer {
    native: Native,
    known: HashMap<u32, Known>,
    /// JVMs may be asked.
    attach: bool,
}

impl Symbolizer {
    pub(crate) fn new(attach: bool) -> Symbolizer {
        Symbolizer { native: Native::new(), known: HashMap::new(), attach }
    }

    /// Where a process has HotSpot's code; of empty ranges it has none.
    pub(crate) fn interpreter(&mut self, pid: u32, broken: bool) -> Result<CodeRange, String> {
        let known = know(&mut self.known, pid)?;
        match &known.hotspot {
            Some(Ok(hotspot)) => Ok(hotspot.code),
            // It may be starting: looked at again with its next stack.
            Some(Err(error)) => {
                let error = error.clone();
                self.known.remove(&pid);
                Err(error)
            }
            None if broken || self.native.hides_callers(&known.process) => Ok(known.own_code()),
            None => Ok(CodeRange::default()),
        }
    }

    /// Lets go of processes that have ended: of each JVM a descriptor and pages of its memory were kept.
    pub(crate) fn forget_ended(&mut self) {
        self.known.retain(|&pid, known| {
            Identity::of(pid).is_ok_and(|identity| identity == known.process.identity)
        });
        let known = &self.known;
        self.native.keep(|pid| known.contains_key(&pid));
    }

    /// Lets go of what was read of files. What is kept of JVMs is small, and dear to learn again.
    pub(crate) fn rest(&mut self) {
        self.native = Native::new();
    }

    pub(crate) fn name(&mut self, raw: &Raw) -> Named {
        let known = match know(&mut self.known, raw.pid) {
            Ok(known) => known,
            Err(why) => return Named { note: Some(why), ..Named::default() },
        };
        let (mut walked, link) = frames_of(raw);
        let mut whole = false;
        if known.looked.elapsed() > LOOK_AGAIN
            && walked.iter().any(|frame| known.process.code_at(frame.ip).is_none())
            && let Ok(process) = Process::look(raw.pid)
        {
            known.process = process;
            known.looked = Instant::now();
        }
        if let Some(Ok(jvm)) = &known.hotspot {
            jvm.refresh();
        }
        let followed = raw
            .has_memory()
            .then(|| unwind(&known.process, known.jvm(), &mut self.native, raw, link));
        // Frame pointers may lead further than tables, but where there are none they lead astray.
        if let Some(followed) =
            followed.filter(|followed| known.is_blind() || followed.frames.len() > walked.len())
        {
            whole = followed.whole;
            walked = followed.frames;
        } else if let Some(first) = walked.first().copied()
            && let Some(caller) =
                self.native.caller_of_leaf(&known.process, first.ip, link, &raw.top)
            && walked.get(1).is_none_or(|second| second.ip != caller)
        {
            walked.insert(1, RawFrame { ip: caller, method: 0, bytecode: 0 });
        }
        known.bring_up_to_date(&walked, self.attach);
        let nid = known.process.inner_tid(raw.tid);
        let (frames, compiled_at) = known.frames(&mut self.native, &walked);
        let mut named = Named { frames, nid, note: None };
        named.note =
            known.note(&mut named.frames, compiled_at.filter(|_| !whole), raw, self.attach);
        named
    }
}

/// The frames as they were walked, and the link register where the kernel told it. On aarch64 the addresses on the
/// stack may be signed (pointer authentication): user space has 48 bits of them.
fn frames_of(raw: &Raw) -> (Vec<RawFrame>, Option<u64>) {
    let mut frames = raw.frames.clone();
    if raw.flags & flags::LINK == 0 || frames.len() < 2 {
        return (frames, None);
    }
    for frame in &mut frames {
        frame.ip &= (1 << 48) - 1;
    }
    let link = frames.remove(1).ip;
    (frames, Some(link))
}

/// What is known of the process with this id now.
fn know(all: &mut HashMap<u32, Known>, pid: u32) -> Result<&mut Known, String> {
    let ended = |_| format!("process {pid} has ended");
    let identity = Identity::of(pid).map_err(ended)?;
    if all.get(&pid).is_some_and(|known| known.process.identity != identity) {
        all.remove(&pid);
    }
    if all.len() >= MOST_PROCESSES {
        all.clear();
    }
    match all.entry(pid) {
        std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
        std::collections::hash_map::Entry::Vacant(entry) => {
            let process = Process::look(pid).map_err(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    format!("tcptrail may not read process {pid}: names need root")
                }
                _ => format!("process {pid} has ended"),
            })?;
            let hotspot = HotSpot::look(&process);
            Ok(entry.insert(Known {
                process,
                looked: Instant::now(),
                hotspot,
                map: PerfMap::default(),
                ask_at: Some(Instant::now()),
                pause: ASK_AGAIN,
                refused: None,
            }))
        }
    }
}

impl Known {
    /// Of a native process whose stacks cannot be followed by frame pointers the kernel is to take memory;
    /// its program's own code tells one from another.
    fn own_code(&self) -> CodeRange {
        let program = self.process.mappings.iter().find(|mapping| mapping.executable);
        program.map_or_else(CodeRange::default, |program| CodeRange {
            code_start: program.start,
            code_end: program.end,
            memory: 1,
            ..CodeRange::default()
        })
    }

    fn jvm(&self) -> Option<&HotSpot> {
        self.hotspot.as_ref()?.as_ref().ok()
    }

    /// Its compiled Java code has no frame pointers.
    fn is_blind(&self) -> bool {
        self.jvm().is_some_and(|jvm| jvm.flag("PreserveFramePointer") == Some(false))
    }

    fn is_interpreted(&self, ip: u64) -> bool {
        self.jvm().is_some_and(|jvm| (jvm.code.start..jvm.code.end).contains(&ip))
    }

    /// The file with the code at this address, empty for code that no file has.
    fn file_at(&self, ip: u64) -> Option<&str> {
        // Mappings may have been looked at before the code cache grew.
        let compiled = self.jvm().is_some_and(|jvm| jvm.is_compiled(ip));
        self.process.code_at(ip).map(|mapping| mapping.path.as_str()).or(compiled.then_some(""))
    }

    /// Code that no file has and the map does not know.
    fn is_unknown_code(&self, ip: u64) -> bool {
        !self.is_interpreted(ip)
            && self.file_at(ip).is_some_and(str::is_empty)
            && self.map.at(ip).is_none()
    }

    /// Asks the JVM for its map when there is code that is not in the one we have.
    fn bring_up_to_date(&mut self, walked: &[RawFrame], attach: bool) {
        if let Some(Ok(hotspot)) = &self.hotspot {
            hotspot.refresh();
        }
        let missing = walked.iter().any(|frame| self.is_unknown_code(frame.ip.wrapping_sub(1)));
        let due = self.ask_at.is_some_and(|at| at <= Instant::now());
        if !attach || !missing || !due || self.hotspot.is_none() || self.cannot_be_asked().is_some()
        {
            return;
        }
        match jvm_attach::perf_map(&self.process) {
            Ok(bytes) => {
                self.refused = None;
                self.map = PerfMap::parse(&bytes);
                let helped =
                    !walked.iter().any(|frame| self.is_unknown_code(frame.ip.wrapping_sub(1)));
                self.pause =
                    if helped { ASK_AGAIN } else { (self.pause * 2).min(ASK_AGAIN_AT_MOST) };
            }
            Err(why) => {
                self.refused = Some(why);
                self.pause = (self.pause * 2).min(ASK_AGAIN_AT_MOST);
            }
        }
        self.ask_at = Some(Instant::now() + self.pause);
    }

    /// Why this JVM must not be asked.
    fn cannot_be_asked(&self) -> Option<String> {
        let jvm = self.jvm()?;
        if jvm.flag("DisableAttachMechanism") == Some(true) {
            return Some("it runs with -XX:+DisableAttachMechanism".into());
        }
        if (1..17).contains(&jvm.version) {
            return Some(format!("JDK {} has no command for it (17 and later have)", jvm.version));
        }
        None
    }

    /// Names; and how many there are up to the first compiled method.
    fn frames(&self, native: &mut Native, walked: &[RawFrame]) -> (Vec<Frame>, Option<usize>) {
        let mut frames = Vec::new();
        let mut compiled = None;
        for (index, raw) in walked.iter().enumerate() {
            // A return address may be the first of the next function.
            let ip = if index == 0 { raw.ip } else { raw.ip.wrapping_sub(1) };
            if self.is_interpreted(ip) {
                let method = self
                    .jvm()
                    .and_then(|jvm| jvm.method(raw.method, Position::Pointer(raw.bytecode)));
                frames.push(match method {
                    Some((name, line)) => Frame::java(&name, line),
                    None => Frame::stub("Interpreter"),
                });
                continue;
            }
            let Some(path) = self.file_at(ip) else {
                if raw.ip != 0 {
                    frames.push(Frame::unknown(format!("{:#x}", raw.ip)));
                }
                continue;
            };
            if !path.is_empty() {
                frames.extend(native.frames(&self.process, ip));
                continue;
            }
            let (found, is_method) = self.generated(raw, ip);
            frames.extend(found);
            if is_method {
                compiled.get_or_insert(frames.len());
            }
        }
        (frames, compiled)
    }

    /// Frames of code that the JVM generated, those inlined first, and whether it is a method's: by the
    /// JVM's tables, which are of now, else by its perf map.
    fn generated(&self, raw: &RawFrame, ip: u64) -> (Vec<Frame>, bool) {
        let blob = self.jvm().and_then(|jvm| Some((jvm, jvm.blob(ip)?)));
        if let Some((jvm, blob)) = &blob {
            let frames = compiled(jvm, blob, raw.ip);
            if !frames.is_empty() {
                return (frames, true);
            }
        }
        match (self.map.at(ip), blob) {
            (Some(Code::Method(name)), _) => (vec![Frame::java(name, None)], true),
            (Some(Code::Stub(name)), _) => (vec![Frame::stub(name)], false),
            (None, Some((_, blob))) if blob.method.is_none() => {
                (vec![Frame::stub(&blob.name)], true)
            }
            (None, _) => (vec![Frame::unknown(format!("[compiled {:#x}]", raw.ip))], true),
        }
    }

    fn note(
        &self,
        frames: &mut Vec<Frame>,
        compiled_at: Option<usize>,
        raw: &Raw,
        attach: bool,
    ) -> Option<String> {
        let nameless = frames.iter().any(|frame| frame.name.starts_with("[compiled "));
        match &self.hotspot {
            Some(Err(why)) => Some(format!("the JVM's tables cannot be read: {why}")),
            Some(Ok(_)) => {
                if let Some(at) = compiled_at.filter(|_| self.is_blind()) {
                    // Without it a compiled method does not say where its caller's frame is: what
                    // follows may have left callers out.
                    frames.truncate(at);
                    return Some(
                        "the callers of compiled Java code could not be followed: start the JVM with \
                         -XX:+PreserveFramePointer to see them"
                            .into(),
                    );
                }
                if !nameless {
                    return frozen(frames);
                }
                let why = if attach {
                    self.cannot_be_asked().or_else(|| self.refused.clone())
                } else {
                    Some("--no-attach".to_owned())
                };
                Some(match why {
                    Some(why) => format!("compiled methods have no names: the JVM was not asked for them: {why}"),
                    None => "some compiled methods have no names: their code is gone".into(),
                })
            }
            None if interpreter_of(&self.process).is_some() => interpreter_of(&self.process).map(|name| {
                format!(
                    "these are frames of {name} itself, not of the script that it runs; its own profiler shows those (for Python: py-spy dump --pid {})",
                    self.process.pid
                )
            }),
            None if opener(frames).is_none() || (raw.flags & flags::BROKEN != 0 && frames.len() < 3) => Some(
                "the callers are unknown: the program has no frame pointers; build it with -fno-omit-frame-pointer (Rust: -C force-frame-pointers=yes)"
                    .into(),
            ),
            None => None,
        }
    }
}

/// Of a virtual thread that has waited only the innermost methods are on a stack again; it returns to the others by
/// way of a stub.
fn frozen(frames: &[Frame]) -> Option<String> {
    frames.last().filter(|last| last.name.starts_with("StubRoutines (continuation")).map(|_| {
        "a virtual thread that has waited: its outer methods are in the Java heap, which tcptrail does not read; jcmd PID Thread.dump_to_file FILE shows them"
            .into()
    })
}

/// The methods of a compiled frame by the JVM's tables, those inlined first; empty where they do not tell.
fn compiled(jvm: &HotSpot, blob: &Blob, ip: u64) -> Vec<Frame> {
    let Some(method) = blob.method else { return Vec::new() };
    let name = |method, position| {
        let (name, line) = jvm.method(method, position)?;
        Some(Frame::java(&name, line))
    };
    let inlined = jvm.inlined(blob, ip);
    let inlined =
        inlined.iter().map(|frame| name(frame.method, Position::Bytecode(frame.bytecode)));
    match inlined.collect::<Option<Vec<Frame>>>() {
        Some(frames) if !frames.is_empty() => frames,
        // Native methods have no scopes.
        _ => name(method, Position::Unknown).into_iter().collect(),
    }
}

/// The interpreter of a script language that a process executes.
fn interpreter_of(process: &Process) -> Option<&str> {
    let name = process.mappings.iter().find(|mapping| mapping.executable)?.file_name();
    ["python", "ruby", "perl", "node", "php"]
        .iter()
        .any(|start| name.starts_with(start))
        .then_some(name)
}
