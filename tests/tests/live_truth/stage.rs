//! What most scenarios need: a namespace under test, a hand-made peer across a veth, and three
//! tcptrails that look on.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::hand::{ACK, Hand, SYN, silence};
use tests::netns::{Netns, Pair};
use tests::pace::slack;
use tests::tcptrail::{Event, Run, Side, Tcptrail};
use tests::traffic::{accept, connect, listen};
use tests::watch::Watch;
use tests::witness::{Moment, Socket, eventually, ss};

/// How far a duration may be from what the test's own clock says.
pub(crate) const CLOSE_TO: u64 = 20_000_000;
/// And that of what only polling tells, a look a second.
pub(crate) const TICK: u64 = 1_300_000_000;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Local and remote address.
pub(crate) type End = (SocketAddr, SocketAddr);

/// The namespace under test is `pair.right`; hands are in `pair.left`.
pub(crate) struct Stage {
    pub(crate) pair: Pair,
    /// Nothing is accepted from it but by the test.
    pub(crate) listener: TcpListener,
    pub(crate) tail: Tcptrail,
    pub(crate) life: Tcptrail,
    pub(crate) watch: Watch,
}

/// What `tail` and `life` said.
pub(crate) struct Told {
    pub(crate) tail: Run,
    pub(crate) life: Run,
}

impl Stage {
    pub(crate) fn new() -> Result<Stage> {
        Self::with(&[])
    }

    /// With these settings in the namespace under test.
    pub(crate) fn with(sysctls: &[(&str, &str)]) -> Result<Stage> {
        let pair = Pair::new()?;
        silence(&pair.left)?;
        for (key, value) in sysctls {
            pair.right.sysctl(key, value)?;
        }
        let listener = listen(&pair.right, "0.0.0.0:0")?;
        let args = ["--netns", pair.right.name()];
        let tail = Tcptrail::start(&args)?;
        let life = Tcptrail::start(&[&["life"], &args[..]].concat())?;
        let watch = Watch::start("250ms", &args)?;
        Ok(Stage { pair, listener, tail, life, watch })
    }

    pub(crate) fn netns(&self) -> &Netns {
        &self.pair.right
    }

    /// Where the listener is for a hand.
    pub(crate) fn server(&self) -> Result<SocketAddrV4> {
        let port = self.listener.local_addr()?.port();
        Ok(SocketAddrV4::new(Pair::RIGHT.parse()?, port))
    }

    /// A hand that will call the listener from this port, and how the listener's child will be known.
    pub(crate) fn caller(&self, port: u16) -> Result<(Hand, End)> {
        let server = self.server()?;
        let hand = Hand::new(&self.pair.left, SocketAddrV4::new(left()?, port), server)?;
        let end = (server.into(), hand.addr());
        Ok((hand, end))
    }

    /// A connection from a hand, accepted.
    pub(crate) fn called(&self, port: u16) -> Result<(Hand, TcpStream, End)> {
        let (mut hand, end) = self.caller(port)?;
        hand.connect()?;
        Ok((hand, accept(&self.listener)?, end))
    }

    /// A hand that waits to be called at this port.
    pub(crate) fn callee(&self, port: u16) -> Result<Hand> {
        let anybody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        Hand::new(&self.pair.left, SocketAddrV4::new(left()?, port), anybody)
    }

    /// A connection to a hand, which answers the SYN after `delay`; from when to when connect() and
    /// the answer were.
    pub(crate) fn call_after(&self, port: u16, delay: Duration) -> Result<Called> {
        let mut hand = self.callee(port)?;
        let to = hand.addr();
        let (connected, answered, stream) = thread::scope(|scope| {
            let netns = self.netns();
            let calling = scope.spawn(move || Moment::try_of(|| connect(netns, to)));
            hand.expect(SYN)?;
            // The pause is what is measured.
            thread::sleep(delay);
            let answered = hand.send(SYN | ACK, &[])?;
            hand.expect(ACK)?;
            let (connected, stream) = calling.join().map_err(|_| anyhow::anyhow!("panic"))??;
            anyhow::Ok((connected, answered, stream))
        })?;
        let end = (stream.local_addr()?, to);
        Ok(Called { hand, stream, end, connected, answered })
    }

    pub(crate) fn call(&self, port: u16) -> Result<Called> {
        self.call_after(port, Duration::ZERO)
    }

    /// What `ss` shows of an end now.
    pub(crate) fn ss(&self, end: End) -> Result<Option<Socket>> {
        let (local, remote) = (end.0.to_string(), end.1.to_string());
        Ok(ss(self.netns())?
            .into_iter()
            .find(|socket| socket.local == local && socket.remote == remote))
    }

    /// Waits until `ss` shows nothing of an end any more; says between which moments it went.
    pub(crate) fn gone(&self, end: End) -> Result<Moment> {
        let mut from = 0;
        eventually("the end in ss", Duration::from_secs(20), || {
            let now = tests::witness::now_ns();
            if self.ss(end)?.is_none() {
                return Ok(Some(Moment { from, to: tests::witness::now_ns() }));
            }
            from = now;
            Ok(None)
        })
    }

    /// Waits until `tail` tells this transition of an end.
    pub(crate) fn step(&mut self, end: End, step: &str) -> Result<Event> {
        let (local, remote) = (end.0.to_string(), end.1.to_string());
        self.tail.wait_for(&format!("{step} of {local}"), |event| {
            event.is_step(step) && event.text("local") == local && event.text("remote") == remote
        })
    }

    /// Waits until `life` has a line for an end.
    pub(crate) fn closed(&mut self, end: End) -> Result<Event> {
        let (local, remote) = (end.0.to_string(), end.1.to_string());
        self.life.wait_for(&format!("close of {local}"), |event| {
            event.kind() == "close"
                && event.text("local") == local
                && event.text("remote") == remote
        })
    }

    /// The end of all three; nothing was lost.
    pub(crate) fn end(self) -> Result<Told> {
        self.watch.stop_whole()?;
        let told = Told { tail: self.tail.stop()?, life: self.life.stop()? };
        told.tail.check_whole()?;
        told.life.check_whole()?;
        Ok(told)
    }
}

fn left() -> Result<Ipv4Addr> {
    Ok(Pair::LEFT.parse()?)
}

/// A connection to a hand.
pub(crate) struct Called {
    pub(crate) hand: Hand,
    pub(crate) stream: TcpStream,
    /// The stream's.
    pub(crate) end: End,
    /// connect().
    pub(crate) connected: Moment,
    /// The SYN-ACK.
    pub(crate) answered: Moment,
}

impl Told {
    pub(crate) fn side(&self, end: End) -> Side<'_> {
        self.tail.side(end.0, end.1)
    }

    pub(crate) fn steps(&self, end: End, expected: &[&str]) -> Result<()> {
        self.side(end).check_steps(expected)
    }

    /// The time in a state was that between these moments.
    pub(crate) fn lasted(
        &self,
        end: End,
        state: &str,
        (from, to): (Moment, Moment),
        within: u64,
    ) -> Result<()> {
        let side = self.side(end);
        let event = side.leaving(state)?;
        let told = event.number("in_old_ns").with_context(|| format!("no time: {event:?}"))?;
        check_between(state, told, from.until(to), within)?;
        let life = self.close(end)?;
        if let Some(told) = life.0["states"][state].as_u64() {
            check_between(&format!("life's {state}"), told, from.until(to), within)?;
        } else {
            ensure!(state == "TIME_WAIT", "life has no {state}: {life:?}");
        }
        Ok(())
    }

    /// The one line of `life`.
    pub(crate) fn close(&self, end: End) -> Result<Event> {
        Ok(self.life.side(end.0, end.1).only("close")?.clone())
    }

    /// The one line of `life` has these words; `null` stands for null.
    pub(crate) fn closed(&self, end: End, words: &[(&str, &str)]) -> Result<Event> {
        let event = self.close(end)?;
        check_words(&event, words)?;
        Ok(event)
    }

    /// Kind, state and count of all retransmits of an end.
    pub(crate) fn sent_again(&self, end: End) -> Vec<(String, String, u64)> {
        self.side(end)
            .events
            .iter()
            .filter(|event| event.kind() == "retransmit")
            .map(|event| {
                let count = event.number("count").unwrap_or(0);
                (event.text("kind").to_owned(), event.text("state").to_owned(), count)
            })
            .collect()
    }

    /// The retransmits of an end are just this many of one kind in one state, counted from 1.
    pub(crate) fn check_sent_again(
        &self,
        end: End,
        kind: &str,
        state: &str,
        times: u64,
    ) -> Result<()> {
        let expected: Vec<_> =
            (1..=times).map(|count| (kind.to_owned(), state.to_owned(), count)).collect();
        let told = self.sent_again(end);
        ensure!(told == expected, "{:?}: {told:?}, not {expected:?}", end.0);
        Ok(())
    }
}

pub(crate) fn check_words(event: &Event, words: &[(&str, &str)]) -> Result<()> {
    for (key, word) in words {
        let value = &event.0[*key];
        let same = match *word {
            "null" => value.is_null(),
            "true" => value.as_bool() == Some(true),
            "false" => value.as_bool() == Some(false),
            word => match value.as_str() {
                Some(text) => text == word,
                None => {
                    let shown = value.to_string();
                    shown == word
                }
            },
        };
        ensure!(same && !value.is_null() | (*word == "null"), "{key} is not {word}: {event:?}");
    }
    Ok(())
}

/// What a slow machine is allowed beyond `within`. There a look takes so long that looks are seconds apart:
/// they may take only so much of the time.
pub(crate) fn room(within: u64) -> u64 {
    if within >= TICK { 10 * slack() } else { slack() }
}

pub(crate) fn check_between(
    what: &str,
    told: u64,
    (least, most): (u64, u64),
    within: u64,
) -> Result<()> {
    let within = within + room(within);
    ensure!(
        told + within >= least && told <= most + within,
        "{what}: {told} ns, not {least} to {most}"
    );
    Ok(())
}

/// A moment as told is this one.
pub(crate) fn check_at(what: &str, told: u64, moment: Moment, within: u64) -> Result<()> {
    let within = within + room(within);
    ensure!(
        told + within >= moment.from && told <= moment.to + within,
        "{what} at {told}, not {moment:?}: {} ms off",
        (told.cast_signed() - moment.from.cast_signed()) / 1_000_000
    );
    Ok(())
}
