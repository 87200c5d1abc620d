//! The load: a little of everything, all the time, and counted.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::SockRef;
use tests::netns::Netns;
use tests::traffic::{accept, connect, read_end};

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 77, 1, 1);

/// Held open while it lasts, the oldest replaced all the time.
const HELD: usize = 200;

/// A JVM that connects, keeps some and closes some, until it is killed.
const JAVA: &str = r#"
import java.net.*;
import java.util.*;
public class Soak {
    public static void main(String[] args) throws Exception {
        InetAddress to = InetAddress.getByName(args[0]);
        int port = Integer.parseInt(args[1]);
        List<Socket> kept = new ArrayList<>();
        while (true) {
            Socket socket = new Socket(to, port);
            if (kept.size() < 3) kept.add(socket); else socket.close();
            Thread.sleep(500);
        }
    }
}
"#;

/// Something done over and over.
#[derive(Clone, Copy)]
enum Task {
    Churn,
    Hold,
    Listen,
    Process,
    Namespace,
    Jvm,
}

const TASKS: [(Task, Duration); 6] = [
    (Task::Churn, Duration::from_millis(100)),
    (Task::Hold, Duration::from_millis(500)),
    (Task::Listen, Duration::from_secs(1)),
    (Task::Process, Duration::from_secs(1)),
    (Task::Namespace, Duration::from_secs(10)),
    (Task::Jvm, Duration::from_secs(60)),
];

/// The load and what it has done.
pub(crate) struct Load<'a> {
    home: &'a Netns,
    listener: TcpListener,
    /// What children connect to; accepted and read until they end.
    public: TcpListener,
    /// As `public`, for JVMs: what is accepted here is what they made.
    for_jvms: TcpListener,
    accepted: Vec<TcpStream>,
    held: VecDeque<(TcpStream, TcpStream)>,
    due: [Instant; TASKS.len()],
    classes: Option<PathBuf>,
    jvm: Option<(Child, Instant)>,
    own: PathBuf,
    churned: u64,
    listened: u64,
    connects: u64,
    processes: u64,
    namespaces: u64,
    jvms: u64,
}

/// A connection to one of the soak's addresses, both ends ours.
fn both(netns: &Netns, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let to = listener.local_addr()?;
    let client = connect(netns, to)?;
    Ok((client, accept(listener)?))
}

fn listen(netns: &Netns, at: Ipv4Addr) -> Result<TcpListener> {
    netns.run(|| Ok(TcpListener::bind((at, 0))?))
}

/// Closes both ends, in one of four ways.
fn end(client: TcpStream, server: TcpStream, way: u64) -> Result<()> {
    match way % 4 {
        0 => {
            drop(client);
            read_end(&server)?;
        }
        1 => {
            drop(server);
            read_end(&client)?;
        }
        2 => {
            SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
            drop(client);
            drop(server);
        }
        _ => {
            (&client).write_all(b"soak")?;
            client.shutdown(std::net::Shutdown::Write)?;
            let mut server = server;
            std::io::copy(&mut server, &mut std::io::sink())?;
            drop(server);
            read_end(&client)?;
        }
    }
    Ok(())
}

impl<'a> Load<'a> {
    pub(crate) fn start(home: &'a Netns, dir: &Path) -> Result<Load<'a>> {
        let [public, for_jvms] = [listen(home, SERVER)?, listen(home, SERVER)?];
        public.set_nonblocking(true)?;
        for_jvms.set_nonblocking(true)?;
        let classes = compile(dir)?;
        if classes.is_none() {
            println!("no javac here: without JVMs");
        }
        Ok(Load {
            home,
            listener: listen(home, SERVER)?,
            public,
            for_jvms,
            accepted: Vec::new(),
            held: VecDeque::new(),
            due: [Instant::now(); TASKS.len()],
            classes,
            jvm: None,
            own: std::env::current_exe()?,
            churned: 0,
            listened: 0,
            connects: 0,
            processes: 0,
            namespaces: 0,
            jvms: 0,
        })
    }

    /// Does what is due.
    pub(crate) fn step(&mut self) -> Result<()> {
        for (number, (task, every)) in TASKS.into_iter().enumerate() {
            if Instant::now() < self.due[number] {
                continue;
            }
            // What was missed while somebody else had the machine is not caught up on.
            self.due[number] = Instant::now() + every;
            match task {
                Task::Churn => self.churn()?,
                Task::Hold => self.hold()?,
                Task::Listen => self.listen()?,
                Task::Process => self.process()?,
                Task::Namespace => self.namespace()?,
                Task::Jvm => self.start_jvm()?,
            }
        }
        self.serve()?;
        if self.jvm.as_ref().is_some_and(|(_, since)| since.elapsed() > Duration::from_secs(20)) {
            self.kill_jvm()?;
        }
        Ok(())
    }

    fn churn(&mut self) -> Result<()> {
        let (client, server) = both(self.home, &self.listener)?;
        self.connects += 1;
        self.churned += 1;
        end(client, server, self.churned)
    }

    fn hold(&mut self) -> Result<()> {
        self.held.push_back(both(self.home, &self.listener)?);
        self.connects += 1;
        if self.held.len() > HELD
            && let Some((client, server)) = self.held.pop_front()
        {
            // Not with a RST: that of a connection which was idle for so long is a finding (TT402).
            end(client, server, self.connects % 2)?;
        }
        Ok(())
    }

    fn listen(&mut self) -> Result<()> {
        let listener = listen(self.home, SERVER)?;
        let (client, server) = both(self.home, &listener)?;
        self.connects += 1;
        self.listened += 1;
        drop(listener);
        end(client, server, self.listened)
    }

    /// A process that ends with its socket open.
    fn process(&mut self) -> Result<()> {
        let addr = self.public.local_addr()?.to_string();
        let mut command = Command::new(&self.own);
        command.args(["--child", &addr]).stdin(Stdio::null());
        let status = self.home.spawn(&mut command)?.wait()?;
        anyhow::ensure!(status.success(), "the child failed");
        self.connects += 1;
        self.processes += 1;
        Ok(())
    }

    /// A namespace that goes with sockets in TIME_WAIT.
    fn namespace(&mut self) -> Result<()> {
        let netns = Netns::new()?;
        let listener = listen(&netns, ELSEWHERE)?;
        for way in 0..4 {
            let (client, server) = both(&netns, &listener)?;
            self.connects += 1;
            end(client, server, way)?;
        }
        self.namespaces += 1;
        Ok(())
    }

    fn start_jvm(&mut self) -> Result<()> {
        let Some(classes) = &self.classes else { return Ok(()) };
        let port = self.for_jvms.local_addr()?.port().to_string();
        let mut command = Command::new("java");
        command
            .args(["-Xmx32m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(classes)
            .args(["Soak", &SERVER.to_string(), &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self.home.spawn(&mut command)?;
        self.jvm = Some((child, Instant::now()));
        self.jvms += 1;
        Ok(())
    }

    fn kill_jvm(&mut self) -> Result<()> {
        let Some((mut child, _)) = self.jvm.take() else { return Ok(()) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Accepts what comes from others, and closes what they have closed.
    fn serve(&mut self) -> Result<()> {
        // The children's were counted when they were started.
        for (listener, counts) in [(&self.public, 0), (&self.for_jvms, 1)] {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                self.connects += counts;
                self.accepted.push(stream);
            }
        }
        self.accepted.retain(|stream| {
            let ended = match stream.peek(&mut [0; 1]) {
                Ok(0) => true,
                Ok(_) => {
                    let mut stream = stream;
                    std::io::Read::read(&mut stream, &mut [0; 64]).is_err()
                }
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            };
            !ended
        });
        Ok(())
    }

    /// Ends everything but what is held.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.kill_jvm()?;
        for _ in 0..20 {
            self.serve()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Connections made.
    pub(crate) fn made(&self) -> u64 {
        self.connects
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} connections, {} held, {} listeners, {} processes, {} namespaces, {} JVMs",
            self.connects,
            self.held.len(),
            self.listened,
            self.processes,
            self.namespaces,
            self.jvms
        )
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.jvm {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn compile(dir: &Path) -> Result<Option<PathBuf>> {
    let source = dir.join("Soak.java");
    fs::write(&source, JAVA)?;
    let classes = dir.join("classes");
    let javac = Command::new("javac").arg("-d").arg(&classes).arg(&source).status();
    Ok(javac.is_ok_and(|status| status.success()).then_some(classes))
}

/// What a short-lived process does: it leaves the closing to the kernel.
pub(crate) fn child(addr: &str) -> Result<()> {
    let to: SocketAddr = addr.parse()?;
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(b"bye")?;
    // No destructors: as after kill -9.
    std::process::exit(0);
}
