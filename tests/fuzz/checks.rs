//! What must hold of any bytes: the fuzz targets, and the inputs they begin with.
//!
//! Plain functions, so that cargo-fuzz runs them (`fuzz_targets/`) and so do the tests of every
//! build (`tracer/tests/fuzzed.rs`). A new one goes into [`ALL`], `fuzz_targets/` and Cargo.toml.

use std::cell::RefCell;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Parser;
use tracer::cli::{Cli, Command, Common};
use tracer::config::{self, Config};
use tracer::containers::Containers;
use tracer::engine::rules::{Facts, Gate, Thresholds, Watch};
use tracer::engine::{Engine, Rules, decode};
use tracer::hosts::Hosts;
use tracer::input::{Input, Origin};
use tracer::java::lines::line_of;
use tracer::java::perf_map::{Code, PerfMap};
use tracer::java::scopes::{self, MOST_DEPTH, PcDesc};
use tracer::java::unsigned5::Encoding;
use tracer::kernel::btf::Btf;
use tracer::kernel::layout;
use tracer::names::{self, Names};
use tracer::output::record::Writer;
use tracer::output::serve::Offline;
use tracer::output::session::Session;
use tracer::output::{json, listed};
use tracer::record_format::segments;
use tracer::source::recording::{Item, Reader};
use tracer::text;
use tracer::time::MonoNs;

/// A check: panics when what must hold does not.
pub type Check = fn(&[u8]);

/// Every check by its target's name.
pub const ALL: [(&str, Check); 14] = [
    ("wire", wire),
    ("recording", recording),
    ("columns", columns),
    ("session", session),
    ("btf", btf),
    ("filter", filter),
    ("cli", cli),
    ("names", names),
    ("files", files),
    ("config_file", config_file),
    ("containers", containers),
    ("http", http),
    ("perf_map", perf_map),
    ("jvm_streams", jvm_streams),
];

/// Connections a table may have here.
const LIMIT: usize = 64;

/// A record, a row of either walk, names: whatever it is taken for, an event or an error.
pub fn wire(data: &[u8]) {
    let _ = decode::event(data);
    let _ = decode::holder(data);
    Names::default().take_in(data);
    let _ = Facts::decode(data);
}

/// A recording, its checksums made right so that what they guard is reached.
pub fn recording(data: &[u8]) {
    let mut file = data.to_vec();
    repair(&mut file);
    replay(&file, usize::from(data.last().copied().unwrap_or_default()));
}

/// The columns that a frame is made of: its length in two bytes, then what LZ4 would give.
pub fn columns(data: &[u8]) {
    let [low, high, columns @ ..] = data else { return };
    let length = u16::from_le_bytes([*low, *high]);
    let count = u32::try_from(columns.len()).unwrap_or(u32::MAX).to_le_bytes();
    let block = [&[1], &count[..], &lz4_flex::block::compress(columns)].concat();
    let mut file = head(3);
    add_frame(&mut file, &block, length.into());
    repair(&mut file);
    replay(&file, columns.len());
}

/// What stands in a recording, as it stands there before it is packed: events, rows, losses, names in
/// any order, through the table and every view.
pub fn session(data: &[u8]) {
    let [view, items @ ..] = data else { return };
    replay(&packed(items), usize::from(*view));
}

/// A kernel's description of its types, and the offsets found with it.
pub fn btf(data: &[u8]) {
    if let Ok(btf) = Btf::parse(data.to_vec()) {
        let _ = layout::resolve(&btf);
        let _ = btf.enumerators("sk_rst_reason");
    }
}

/// What filters and limits are given: a line each, whose first character says which.
pub fn filter(data: &[u8]) {
    static NONE: OnceLock<Common> = OnceLock::new();
    let Ok(text) = str::from_utf8(data) else { return };
    let none = NONE.get_or_init(|| Cli::parse_from(["tcptrail"]).common);
    let mut common = none.clone();
    for line in text.lines() {
        let mut chars = line.chars();
        let which = chars.next();
        let value = || chars.as_str().to_owned();
        match which {
            Some('p') => common.filters.port.push(value()),
            Some('l') => common.filters.lport.push(value()),
            Some('r') => common.filters.rport.push(value()),
            Some('a') => common.filters.addr.push(value()),
            Some('s') => common.filters.state.push(value()),
            Some('c') => common.filters.comm.push(value()),
            Some('n') => common.filters.netns = Some(value()),
            Some('g') => common.filters.cgroup = Some(value().into()),
            Some('m') => common.limits.ring_size = Some(value()),
            Some('t') => drop(Thresholds::default().set(chars.as_str())),
            Some('f') => drop(Gate::parse(chars.as_str())),
            Some('d') => drop(humantime::parse_duration(chars.as_str())),
            _ => {}
        }
    }
    resolve(None, &common);
}

fn resolve(command: Option<Command>, common: &Common) {
    match config::resolve(command, common) {
        Ok(config) => drop(config.filter.kernel_side()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A command line, an argument a line.
pub fn cli(data: &[u8]) {
    let Ok(line) = str::from_utf8(data) else { return };
    let args = std::iter::once("tcptrail").chain(line.lines());
    if let Ok(cli) = Cli::try_parse_from(args) {
        resolve(cli.command, &cli.common);
    }
}

/// A stranger's name: nothing of it steers a terminal, and any reader of JSON gets it.
pub fn names(data: &[u8]) {
    let mut out = Vec::new();
    text::name(data, &mut out);
    check_text(&out);
    assert!(!out.contains(&b'\n'), "a name breaks a line");
    out.clear();
    json::string(data, &mut out);
    check_text(&out);
    let read: String = serde_json::from_slice(&out).expect("valid JSON");
    assert_eq!(read, String::from_utf8_lossy(data));
    let _ = names::container(data);
}

const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Works on a file below a folder of this thread, which has nothing else in it.
fn with_file<R>(place: &str, data: &[u8], work: impl FnOnce(&Path, &Path) -> R) -> R {
    thread_local! {
        static ROOT: tempfile::TempDir = tempfile::tempdir().expect("a folder");
    }
    ROOT.with(|root| {
        let path = root.path().join(place);
        if fs::write(&path, data).is_err() {
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(&path, data).expect("a file");
        }
        let told = work(root.path(), &path);
        fs::remove_file(path).expect("it is there");
        told
    })
}

/// A configuration file.
pub fn config_file(data: &[u8]) {
    with_file("tcptrail.toml", data, |_, path| {
        let path = path.to_str().expect("UTF-8");
        let args = ["tcptrail", "serve", "--config", path];
        thread_local! {
            static CLI: RefCell<Option<Cli>> = const { RefCell::new(None) };
        }
        // The path is the same each time, and clap takes longer than all the rest.
        let cli =
            CLI.with_borrow_mut(|cli| cli.get_or_insert_with(|| Cli::parse_from(args)).clone());
        match config::with_file(cli, args.map(Into::into).into()) {
            Ok(cli) => resolve(cli.command, &cli.common),
            Err(error) => assert!(error.to_string().contains(path), "{error}"),
        }
    });
}

/// A file of a container engine or of kubelet; the first letter says whose. Of kubelet's the name of a link counts.
pub fn containers(data: &[u8]) {
    let [which, data @ ..] = data else { return };
    let text = String::from_utf8_lossy(data);
    // With the id behind it a file's name has at most 255 bytes.
    let name = text.replace(['/', '\0'], "_").chars().take(45).collect::<String>();
    let place = match which {
        b'd' => format!("var/lib/docker/containers/{CONTAINER}/config.v2.json"),
        b'p' => "var/lib/containers/storage/overlay-containers/containers.json".to_owned(),
        b'l' => format!("var/log/containers/{name}-{CONTAINER}.log"),
        _ => return,
    };
    with_file(&place, data, |root, _| {
        let cgroup = format!("/system.slice/docker-{CONTAINER}.scope");
        let mut containers = Containers::below(root);
        for (_, given) in containers.named([(1, cgroup.as_bytes())].into_iter()) {
            let mut out = Vec::new();
            text::name(format!("{given:?}").as_bytes(), &mut out);
            check_text(&out);
        }
    });
}

/// Files of the machine with names, and what the flight recorder finds in its directory: notes, and names of files that may
/// be segments. The first letter says which.
pub fn files(data: &[u8]) {
    let [which, data @ ..] = data else { return };
    let text = String::from_utf8_lossy(data);
    let place = match which {
        b'h' => "etc/hosts",
        b's' => "etc/services",
        b'f' => return drop(segments::noted(&text)),
        b'n' => {
            let _ = segments::begin(&text);
            return;
        }
        _ => return,
    };
    with_file(place, data, |root, _| Names::default().take_in(&Hosts::below(root).news()));
}

/// What somebody sends to the address of `serve`: at most one answer, whole, in HTTP, and the figures only to who asks to
/// read them.
pub fn http(data: &[u8]) {
    thread_local! {
        static SERVE: Offline = {
            let file = fs::read(fixtures().join("recordings/loopback.tcpt")).expect("a fixture");
            let (origin, _) = Reader::open(file.as_slice()).expect("a recording");
            Offline::new(origin).expect("a timer")
        };
    }
    let told = SERVE.with(|serve| serve.answer(data));
    if told.is_empty() {
        return;
    }
    let told = str::from_utf8(&told).expect("UTF-8");
    let (head, body) = told.split_once("\r\n\r\n").expect("a whole head");
    let (first, fields) = head.split_once("\r\n").expect("fields");
    let mut words = first.splitn(3, ' ');
    assert!(matches!(words.next(), Some("HTTP/1.0" | "HTTP/1.1")), "{first}");
    let status = words.next().expect("a status");
    assert!(matches!(status, "200" | "400" | "404" | "405" | "414" | "431"), "{first}");
    let reads = |method: &str| data.trim_ascii_start().starts_with(method.as_bytes());
    assert!(status != "200" || reads("GET ") || reads("HEAD "), "{first}");
    let length = fields.lines().find_map(|field| {
        let (name, value) = field.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().expect("a length"))
    });
    let length = length.expect("a length");
    assert!(body.len() == length || body.is_empty() && reads("HEAD "), "{head}: {}", body.len());
}

/// What a JVM says of its compiled methods: any address is looked up, names come out whole.
pub fn perf_map(data: &[u8]) {
    let map = PerfMap::parse(data);
    let mut address = 0x7f00_0000_0000;
    for bytes in data.chunks(8) {
        for byte in bytes {
            address = address << 8 | u64::from(*byte);
        }
        if let Some(Code::Method(name) | Code::Stub(name)) = map.at(address) {
            let mut out = Vec::new();
            text::name(name.as_bytes(), &mut out);
            check_text(&out);
        }
    }
    let _ = (map.at(0), map.at(u64::MAX), map.is_empty());
}

/// A JVM's debug information: where to begin, then a stream and a table of entries, the same bytes.
pub fn jvm_streams(data: &[u8]) {
    let Some((&[a, b, c, d], rest)) = data.split_first_chunk() else { return };
    let begin = i32::from_le_bytes([a, b, c, d]);
    let byte = |at: u32| rest.get(usize::try_from(at).ok()?).copied();
    let word =
        |at: u32| Some(i32::from_le_bytes(*rest.get(usize::try_from(at).ok()?..)?.first_chunk()?));
    for encoding in [Encoding::Plain, Encoding::NoZero] {
        let found = scopes::chain(begin, encoding, byte);
        assert!(found.len() <= MOST_DEPTH && found.iter().all(|scope| scope.method != 0));
        let _ = line_of(rest, begin.cast_unsigned(), encoding);
    }
    for count in [u32::MAX, u32::from(d)] {
        let _ = scopes::find(count, begin, |index| {
            let at = index.checked_mul(8)?;
            Some(PcDesc { pc: word(at)?, scope: word(at + 4)? })
        });
    }
}

/// Everything that may be printed.
fn check_text(out: &[u8]) {
    let text = str::from_utf8(out).expect("UTF-8");
    // Some of those that turn text around (UAX #9) or hide it.
    let steers = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!text.contains(steers), "{text:?}");
}

fn replay(file: &[u8], view: usize) {
    let Ok((origin, mut reader)) = Reader::open(file) else { return };
    let configs = configs();
    let config = &configs[view % configs.len()];
    let mut session = new_session(config, origin);
    let mut last = MonoNs(0);
    while let Ok(Some(item)) = reader.next() {
        match item {
            Item::Input(input) => {
                if let Input::Tick(now) | Input::PollEnd { now, .. } = input {
                    last = now;
                }
                session.feed(&input);
            }
            Item::Ended(ended) => last = ended.at,
        }
        assert!(
            session.engine.table().len() <= LIMIT,
            "{} connections",
            session.engine.table().len()
        );
        check_output(config, session.out());
    }
    session.draw_last(last, true);
    session.end(last);
    assert!(session.take_failures().is_empty());
    check_output(config, session.out());
}

fn check_output(config: &Config, out: &mut Vec<u8>) {
    check_text(out);
    if config.json {
        for line in out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let object: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            assert_eq!(object["schema"], 1);
        }
    }
    out.clear();
}

fn new_session(config: &Config, origin: Origin) -> Session {
    let watch = Watch::new(config.rules(origin.jiffy_ns));
    let rules = Rules { watch, scope: config.filter.clone(), looks: true };
    let outputs = listed::outputs(config, false, None).expect("no file to open");
    Session::begin(Engine::new(origin, LIMIT).with_rules(Some(rules)), outputs)
        .expect("nothing to fail")
}

/// Every view, as text and as JSON, with and without filters.
fn configs() -> &'static [Config] {
    static CONFIGS: OnceLock<Vec<Config>> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let mut all = Vec::new();
        for view in [
            &["tail"][..],
            &["life"],
            &["life", "--with-time-wait"],
            &["list"],
            &["stuck"],
            &["stuck", "--once", "--threshold", "CLOSE_WAIT=1ms", "--fail-on", "CLOSE_WAIT>0"],
        ] {
            for options in [&[][..], &["--json"], &["--port", "80", "--state", "CLOSE_WAIT"]] {
                let args = ["tcptrail"].iter().chain(view).chain(options);
                let cli = Cli::try_parse_from(args).expect("a command line");
                let mut config = config::resolve(cli.command, &cli.common).expect("a command line");
                config.color = false;
                all.push(config);
            }
        }
        all
    })
}

/// Length of a recording's header up to its origin, and where its crc stands (`record_format.rs`).
const HEADER: usize = 24;
const HEADER_CRC: Range<usize> = 20..24;
/// Of a frame up to its block, and where its crc stands.
const FRAME: usize = 12;
const FRAME_CRC: Range<usize> = 8..12;

/// Makes the checksums of a recording right, as far as its lengths lead.
fn repair(file: &mut [u8]) {
    let number = |bytes: &[u8]| bytes.first_chunk().map(|four| u32::from_le_bytes(*four) as usize);
    let Some(origin) = file.get(16..).and_then(number) else { return };
    let Some(end) = HEADER.checked_add(origin).filter(|&end| end <= file.len()) else { return };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&file[..HEADER_CRC.start]);
    crc.update(&file[HEADER..end]);
    file[HEADER_CRC].copy_from_slice(&crc.finalize().to_le_bytes());
    let mut at = end;
    while let Some(length) = file.get(at..).and_then(number) {
        let Some(frame) = at.checked_add(FRAME + length).and_then(|end| file.get_mut(at..end))
        else {
            return;
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&(at as u64).to_le_bytes());
        crc.update(&frame[..FRAME_CRC.start]);
        crc.update(&frame[FRAME..]);
        frame[FRAME_CRC].copy_from_slice(&crc.finalize().to_le_bytes());
        at += FRAME + length;
    }
}

/// The header of a recording in this format.
fn head(format: u8) -> Vec<u8> {
    static HEAD: OnceLock<Vec<u8>> = OnceLock::new();
    let head = HEAD.get_or_init(|| {
        let mut file = fs::read(fixtures().join("recordings/loopback.tcpt")).expect("a fixture");
        let origin: [u8; 4] = file[16..20].try_into().expect("four");
        file.truncate(HEADER + u32::from_le_bytes(origin) as usize);
        file
    });
    let mut file = head.clone();
    file[8] = format;
    file
}

/// Its checksum is still to be made right.
fn add_frame(file: &mut Vec<u8>, block: &[u8], raw: usize) {
    for length in [block.len(), raw, 0] {
        file.extend_from_slice(&u32::try_from(length).expect("short").to_le_bytes());
    }
    file.extend_from_slice(block);
}

/// A recording of these items, in the format of before.
fn packed(items: &[u8]) -> Vec<u8> {
    let mut file = head(2);
    // As many as the writer put into one.
    for raw in items.chunks(256 << 10) {
        add_frame(&mut file, &lz4_flex::block::compress(raw), raw.len());
    }
    repair(&mut file);
    file
}

/// A recording as it is written now, in one frame.
fn rewritten(file: &[u8]) -> Vec<u8> {
    let (origin, mut reader) = Reader::open(file).expect("a fixture");
    let mut writer = Writer::new(Vec::new(), &origin).expect("memory");
    loop {
        match reader.next().expect("a fixture") {
            Some(Item::Input(input)) => writer.push(&input).expect("memory"),
            Some(Item::Ended(ended)) => return writer.finish(ended).expect("memory"),
            None => panic!("a fixture without an end"),
        }
    }
}

/// The columns of its frames, each after the frame's length.
fn columns_of(file: &[u8]) -> Vec<Vec<u8>> {
    let number = |at: usize| -> Option<usize> {
        Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize)
    };
    let mut all = Vec::new();
    let mut at = HEADER + number(16).expect("a header");
    while let (Some(length), Some(raw)) = (number(at), number(at + 4)) {
        let block = &file[at + FRAME..at + FRAME + length];
        if let (Some(1), Some(count)) = (block.first(), number(at + FRAME + 1)) {
            let columns = lz4_flex::block::decompress(&block[5..], count).expect("of the writer");
            all.push([&(raw as u16).to_le_bytes()[..], &columns].concat());
        }
        at += FRAME + length;
    }
    all
}

/// The items of a recording, unpacked.
fn unpacked(file: &[u8]) -> Vec<u8> {
    let number = |at: usize| -> Option<usize> {
        Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize)
    };
    let mut items = Vec::new();
    let mut at = HEADER + number(16).expect("a header");
    while let (Some(length), Some(raw)) = (number(at), number(at + 4)) {
        let block = &file[at + FRAME..at + FRAME + length];
        items.extend(lz4_flex::block::decompress(block, raw).expect("a fixture"));
        at += FRAME + length;
    }
    items
}

fn fixtures() -> PathBuf {
    repository().join("tests/fixtures")
}

fn repository() -> PathBuf {
    // Of whichever crate this was compiled into: tracer, or tests/fuzz.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|dir| dir.join("tracer-common").is_dir());
    root.expect("inside the repository").to_owned()
}

/// Inputs that once failed, kept for good.
pub fn found(target: &str) -> Vec<Vec<u8>> {
    read_all(&repository().join("tests/fuzz/found").join(target))
}

fn read_all(dir: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read(file).ok()).collect()
}

/// Inputs to begin with: what the fixtures have of this kind.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let recordings = read_all(&fixtures().join("recordings"))
        .into_iter()
        .filter(|file| Reader::open(file.as_slice()).is_ok());
    match target {
        "wire" => recordings.flat_map(|file| records(&file)).collect(),
        "recording" => recordings.flat_map(|file| [rewritten(&file), file]).collect(),
        "columns" => recordings.flat_map(|file| columns_of(&rewritten(&file))).collect(),
        "session" => recordings
            .flat_map(|file| {
                let items = unpacked(&file);
                (0..=u8::MAX)
                    .take(configs().len())
                    .map(move |view| [&[view], items.as_slice()].concat())
                    .collect::<Vec<_>>()
            })
            .collect(),
        "btf" => read_all(&fixtures().join("btf")),
        "filter" => [
            "p80\np8000-8099\nl1\nr65535\na10.0.0.0/8\na2001:db8::1\na[::1]\na1.2.3.4/0",
            "sCLOSE_WAIT\nstime-wait\nsestablished\ncjava\nn4026531840\nnpid:1\nnx\ng/\ng/x",
            "m16MiB\nm4096\nd1m 5s\nd250ms",
            "tCLOSE_WAIT=30s\ntunaccepted=1m\nfCLOSE_WAIT>100 for 60s\nffindings>0\nfCLOSE_WAIT>=5%",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        "cli" => [
            "--port\n80,8000-8099\n--addr\n10.0.0.0/8,2001:db8::1",
            "life\n--state\nCLOSE_WAIT,time-wait\n--min-duration\n1m 5s\n-4\n--json",
            "list\n--watch=5s\n-p\n1,2\n--comm\njava\n--role\nserver\n--ring-size\n16MiB",
            "--lport\n1\n--rport\n65535\n--netns\npid:1\n--cgroup\n/\n--max-connections\n10",
            "replay\n/x\nlife\n--with-time-wait\n--no-color\n-vv",
        ]
        .map(|line| line.as_bytes().to_vec())
        .into(),
        "config_file" => [
            "netns = \"self\"\nlisten = [\"127.0.0.1:1\", \"unix:/x\"]\notlp = \"http://[::1]:4318\"\nkeep = \"24h\"\nport = [80]",
            "threshold = [\"CLOSE_WAIT=1s\"]\njson = true\nlabels = \"pid,port\"\n[a]\nb = 1",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        "containers" => [
            "d{\"ID\":\"x\",\"Name\":\"/web\",\"Config\":{\"Labels\":{\"io.kubernetes.pod.name\":\"web-0\"}}}",
            "p[{\"id\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"names\":[\"db\",\"k8s_app_web-0_shop_1_0\"]}]",
            "lweb-0_shop_app",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        "files" => [
            "h127.0.0.1 localhost\n::1 ip6-localhost # c\n10.0.0.1\tdb.internal db\nfe80::1%eth0 x",
            "shttp 80/tcp www\npostgresql 5432/tcp # c\nx 99999/tcp\ndomain 53/udp",
            "f{\"time\":\"2026-11-28T03:10:00Z\",\"wall_ns\":7,\"ended\":false,\"found_ns\":7,\"pins\":true,\"id\":\"a\",\"code\":\"TT101\",\"verdict\":\"b\"}",
            "n20261128T031000.123456789Z.tcpt",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        "http" => [
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;q=0.9, text/plain\r\n\r\n",
            "HEAD / HTTP/1.0\r\n\r\n",
            "GET http://x/findings?x=%00#y HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
            "POST /readyz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\nUpgrade: h2c\r\n\r\nhello",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        "names" => [
            &b"java"[..],
            b"\x1b[2J\x07\r\n\x9b31m\xff\xfe\\\"\x7f",
            "\u{202e}\u{2066}\u{200b}\u{feff}\u{1f600}\u{e0041}".as_bytes(),
            b"/system.slice/docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope",
        ]
        .map(<[u8]>::to_vec)
        .into(),
        // A scope in its caller, and lines in either form.
        "jvm_streams" => [
            &[4, 0, 0, 0, 0, 0, 3, 11, 1, 244, 6, 1, 1, 1][..],
            &[5, 0, 0, 0, 0xff, 0, 20, 5 << 3 | 1, 0xff, 8, 3, 0xff, 62, 200, 0, 0],
        ]
        .map(<[u8]>::to_vec)
        .into(),
        "perf_map" => [
            &b"7f1000 40 void java.net.Socket.connect(java.net.SocketAddress, int)\n7f1020 10 Interpreter\n"[..],
            b"0x7f00 ffffffffffffffff x\nffffffffffffffff 1 y\n+1 1 z\n 1 1\n7f00 0 \xff\xfe\x1b[2J(\n",
        ]
        .map(<[u8]>::to_vec)
        .into(),
        _ => Vec::new(),
    }
}

fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let Ok((_, mut reader)) = Reader::open(file) else { return all };
    while let Ok(Some(item)) = reader.next() {
        if let Item::Input(Input::Record(bytes) | Input::Holders(bytes) | Input::Names(bytes)) =
            item
        {
            all.push(bytes.to_vec());
        }
    }
    all
}
