//! Reads a thread dump as `jcmd PID Thread.print` writes it: where each thread is now.
//!
//! JDK 8 to 18 write the kernel's thread id as `nid=0x4d1d`, later ones as `nid=19741`
//! (`Thread::print_on_error`, `OSThread::print_on`). Lines that make no sense are passed over: the text
//! comes from another process.

/// One thread of a dump.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Thread {
    /// Its name in Java; any characters.
    pub name: String,
    /// Its id as the kernel of its own pid namespace has it.
    pub nid: Option<u32>,
    /// `RUNNABLE`, `TIMED_WAITING (sleeping)`; empty where the dump does not say.
    pub state: String,
    /// `com.acme.OrderServlet.doGet(OrderServlet.java:31)`, innermost first.
    pub frames: Vec<String>,
}

/// Most threads that are kept of a dump.
const MOST_THREADS: usize = 20_000;
/// Most frames that are kept of a thread.
const MOST_FRAMES: usize = 256;

/// The threads of a dump, in its order.
#[must_use]
pub fn parse(dump: &str) -> Vec<Thread> {
    let mut threads: Vec<Thread> = Vec::new();
    for line in dump.lines() {
        if let Some(rest) = line.strip_prefix('"') {
            if threads.len() == MOST_THREADS {
                break;
            }
            threads.push(head(rest));
            continue;
        }
        let Some(thread) = threads.last_mut() else { continue };
        let line = line.trim_start();
        if let Some(state) = line.strip_prefix("java.lang.Thread.State:") {
            state.trim().clone_into(&mut thread.state);
        } else if let Some(frame) = line.strip_prefix("at ")
            && thread.frames.len() < MOST_FRAMES
        {
            thread.frames.push(without_module(frame));
        }
    }
    threads
}

/// `main" #1 prio=5 os_prio=0 ... nid=0x4d1d waiting on condition [...]`, behind the first quote.
fn head(rest: &str) -> Thread {
    // A name may hold quotes; what follows it never does.
    let (name, facts) = rest.rsplit_once('"').unwrap_or((rest, ""));
    let nid = facts.split_whitespace().find_map(|word| word.strip_prefix("nid="));
    let nid = nid.and_then(|nid| match nid.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => nid.parse().ok(),
    });
    Thread { name: name.to_owned(), nid, ..Thread::default() }
}

/// `java.lang.Thread.sleep(java.base@17.0.15/Native Method)` without the module.
fn without_module(frame: &str) -> String {
    match frame.split_once('(') {
        Some((method, place)) => {
            let place = place.rsplit_once('/').map_or(place, |(_, place)| place);
            // The loader of a class stands before its name: `app//com.acme.Crawler.run`.
            let method = method.rsplit_once('/').map_or(method, |(_, method)| method);
            format!("{method}({place}")
        }
        None => frame.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JDK17: &str = r#"Full thread dump OpenJDK 64-Bit Server VM (17.0.15):

"main" #1 prio=5 os_prio=0 cpu=77.63ms elapsed=2.31s tid=0x00007ff920017ea0 nid=0x4d1d waiting on condition  [0x00007ff924bfe000]
   java.lang.Thread.State: TIMED_WAITING (sleeping)
	at java.lang.Thread.sleep(java.base@17.0.15/Native Method)
	- locked <0x000000069ec02f40> (a java.lang.Object)
	at app//com.acme.Crawler.run(Crawler.java:12)

"Signal Dispatcher" #4 daemon prio=9 os_prio=0 tid=0x00007ff9201007f0 nid=0x4d26 waiting on condition  [0x0000000000000000]
   java.lang.Thread.State: RUNNABLE

"VM Thread" os_prio=0 tid=0x00007ff9200f0000 nid=0x4d22 runnable
"#;

    #[test]
    fn a_dump_is_read() {
        let threads = parse(JDK17);
        let names: Vec<&str> = threads.iter().map(|thread| thread.name.as_str()).collect();
        assert_eq!(names, ["main", "Signal Dispatcher", "VM Thread"]);
        assert_eq!(threads[0].nid, Some(0x4d1d));
        assert_eq!(threads[0].state, "TIMED_WAITING (sleeping)");
        assert_eq!(
            threads[0].frames,
            ["java.lang.Thread.sleep(Native Method)", "com.acme.Crawler.run(Crawler.java:12)"]
        );
        assert_eq!(threads[2].frames, Vec::<String>::new());
    }

    #[test]
    fn thread_ids_of_all_jdks() {
        let check = |line: &str, nid: Option<u32>, name: &str| {
            let threads = parse(line);
            assert_eq!(threads.len(), 1, "{line}");
            assert_eq!((threads[0].nid, threads[0].name.as_str()), (nid, name), "{line}");
        };
        check("\"a\" #1 [19741] prio=5 tid=0x1 nid=19741 runnable", Some(19741), "a");
        check("\"a\" #1 prio=5 tid=0x1 nid=0x10 runnable", Some(16), "a");
        check("\"say \"hi\" nid=5\" #1 prio=5 nid=7 runnable", Some(7), "say \"hi\" nid=5");
        check("\"a", None, "a");
        check("\"a\" nid=0xzz", None, "a");
    }

    proptest! {
        #[test]
        fn any_text_is_no_harm(text in "(\"|at |nid=0x|\\(|/|\n|[a-z])*") {
            let _ = parse(&text);
        }
    }
}
