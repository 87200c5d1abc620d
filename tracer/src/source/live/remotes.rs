//! What is known of remote ends beyond their addresses: names from `/etc/hosts`, `/etc/services` and DNS, and where
//! connections really go. Others find it out, on threads of their own; here is who is asked when.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::conn::Role;
use crate::hosts::{Hosts, Resolver};
use crate::input::Input;
use crate::kernel::conntrack::{Answer, Conntrack};
use crate::names::HostSource;
use crate::output::session::Session;
use crate::privileges::Circumstances;
use crate::source::live::translations::Translations;
use crate::time::MonoNs;

/// A list waits for so long for answers of conntrack.
const KERNEL_PATIENCE: Duration = Duration::from_millis(300);
/// The same for those of DNS.
const DNS_PATIENCE: Duration = Duration::from_secs(1);

/// What came.
pub(super) enum News {
    Translations(Vec<Answer>),
    /// The kernel does not answer.
    Refused,
    Names(Vec<u8>),
}

/// Who is asked.
pub(super) struct Remotes {
    hosts: Hosts,
    conntrack: Option<Conntrack>,
    translations: Translations,
    /// Asked for and not answered.
    under_way: bool,
    /// What came at the start makes another look worth while.
    again: bool,
    resolver: Option<Resolver>,
    /// When the first look was.
    looked: Option<MonoNs>,
}

impl Remotes {
    /// To be made while all privileges are there.
    pub(super) fn start(config: &Config, circumstances: Circumstances) -> Result<Remotes> {
        let resolver = config.resolve.then(Resolver::start).transpose();
        Ok(Remotes {
            hosts: Hosts::below(Path::new("/")),
            conntrack: Conntrack::start(config.filter.netns, circumstances),
            translations: Translations::default(),
            under_way: false,
            again: false,
            resolver: resolver.context("cannot start a thread")?,
            looked: None,
        })
    }

    /// Names in files that have changed; at first all of them.
    pub(super) fn read(&mut self, session: &mut Session) {
        let news = self.hosts.news();
        if !news.is_empty() {
            session.feed(&Input::Names(&news));
        }
    }

    /// Looks over the table, and asks for what is not known.
    pub(super) fn look(&mut self, engine: &Engine, config: &Config, now: MonoNs) {
        self.looked.get_or_insert(now);
        self.again = false;
        if let Some(conntrack) = self.conntrack.as_ref().filter(|_| !self.under_way) {
            let questions = self.translations.questions(engine.table(), now);
            if !questions.is_empty() {
                self.under_way = true;
                conntrack.request(questions);
            }
        }
        let Some(resolver) = &mut self.resolver else { return };
        let names = engine.names();
        let all = config.filter.wants_all(engine.origin().only_netns);
        for conn in engine.table().iter().filter(|conn| conn.role != Role::Listener) {
            let known = names.host(&conn.tuple.remote_addr);
            let local = known.is_some_and(|(_, source)| source == HostSource::Hosts);
            let wanted = conn.tuple.remote_port != 0 && !local;
            if wanted && (all || config.filter.wants(conn) == Some(true)) {
                resolver.want(conn.tuple.remote().ip(), now);
            }
        }
    }

    /// Whether a look is due out of turn.
    pub(super) fn is_urgent(&self) -> bool {
        self.again
    }

    /// Whether looks make sense.
    pub(super) fn are_asked(&self) -> bool {
        self.conntrack.is_some() || self.resolver.is_some()
    }

    /// Whether a list is to wait: until the first look, and a moment for its answers.
    pub(super) fn hold_back(&self, now: MonoNs) -> bool {
        let Some(looked) = self.looked else { return self.are_asked() };
        let within = |patience: Duration| u128::from(now.since(looked)) < patience.as_nanos();
        (self.under_way || self.again) && within(KERNEL_PATIENCE)
            || self.resolver.as_ref().is_some_and(Resolver::is_busy) && within(DNS_PATIENCE)
    }

    /// Says what limits cut off.
    pub(super) fn tell_limits(&self) {
        if self.translations.cut {
            eprintln!(
                "tcptrail: there were too many connections to ask conntrack about all of them: `remote_real` is unknown for some"
            );
        }
        if self.resolver.as_ref().is_some_and(|resolver| resolver.refused() != 0) {
            eprintln!(
                "tcptrail: there were too many remote addresses to look all of them up in DNS: choose fewer connections by a filter"
            );
        }
    }

    /// Waits for an answer; for ever, where none is to come.
    pub(super) async fn news(&mut self) -> News {
        let Remotes { conntrack, resolver, .. } = self;
        let translations = async {
            match conntrack {
                Some(conntrack) => match conntrack.answer().await {
                    Some(answers) => News::Translations(answers),
                    None => News::Refused,
                },
                None => std::future::pending().await,
            }
        };
        let names = async {
            match resolver {
                Some(resolver) => match resolver.answer().await {
                    Some(names) => News::Names(names),
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = translations => news,
            news = names => news,
        }
    }

    /// Takes in what came.
    pub(super) fn take(&mut self, news: News, session: &mut Session) {
        let bytes = match news {
            News::Translations(answers) => {
                self.under_way = false;
                let bytes = self.translations.answered(&answers);
                self.again = !bytes.is_empty() && self.translations.is_at_the_start();
                bytes
            }
            News::Refused => {
                self.under_way = false;
                self.conntrack = None;
                return;
            }
            News::Names(names) => names,
        };
        if !bytes.is_empty() {
            session.feed(&Input::Names(&bytes));
        }
    }
}
