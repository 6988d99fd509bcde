//! The state of a session that Trunkline keeps itself, so that any server connection can be given it: transactional, as
//! on a server (trap 26).

use std::sync::Arc;

use super::notify::{Channel, Channels, Mark};
use crate::backend::{DATE_STYLE, Parameters, Settings, Value, decides_reading};
use crate::sql::{Change, LexOptions, ParameterText, SettingValue, StatementChange, changes};

/// What the statements of one message change, in the order in which the server answers them.
#[derive(Debug, Default)]
pub(super) struct Script {
    changes: Vec<StatementChange>,
    /// Statements that have succeeded.
    done: u32,
    taken: usize,
}

impl Script {
    /// Reads a text; `None` when it changes nothing.
    pub fn read(sql: &[u8], lex: LexOptions, parameter: ParameterText<'_>) -> Option<Box<Self>> {
        let changes = changes(sql, lex, parameter);
        (!changes.is_empty()).then(|| Box::new(Self { changes, ..Self::default() }))
    }

    /// Other encodings than UTF-8 may spell something else by the same bytes: what is set in them beyond ASCII is not known.
    pub fn keep_only_ascii(&mut self) {
        for StatementChange { change, .. } in &mut self.changes {
            if let Change::Set { name, value } = change
                && !(name.is_ascii() && value.is_ascii())
            {
                *change = Change::UnknownSetting;
            }
        }
    }

    /// All of its changes.
    pub fn all(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().map(|change| &change.change)
    }

    /// Whether it changes settings in a way that the text does not tell.
    pub fn is_unknown(&self) -> bool {
        self.all().any(|change| *change == Change::UnknownSetting)
    }

    /// Whether it may change how texts are read.
    pub fn changes_reading(&self) -> bool {
        self.all().any(|change| match change {
            Change::Set { name, .. } => decides_reading(name),
            Change::ResetAll | Change::DiscardAll | Change::RollbackTo(_) | Change::UnknownSetting => true,
            _ => false,
        })
    }

    /// The changes of the next statement, which has succeeded.
    pub fn next_statement(&mut self) -> &[StatementChange] {
        let rest = &self.changes[self.taken..];
        let count = rest.iter().take_while(|change| change.statement == self.done).count();
        self.done += 1;
        self.taken += count;
        &rest[..count]
    }
}

/// Everything that a rollback takes back.
#[derive(Debug, Clone)]
struct Values {
    settings: Arc<Settings>,
    /// What the settings of the server connection were.
    on_server: Arc<Settings>,
    channels: Mark,
}

/// The settings and channels of a session, now and at each point to which its transaction can be rolled back.
///
/// Invariant: a point is kept only within a transaction that has changed something or made a savepoint.
#[derive(Debug)]
pub(super) struct Tracked {
    startup: Arc<Settings>,
    settings: Arc<Settings>,
    channels: Channels,
    /// The transaction's beginning (no name), and its savepoints.
    points: Vec<(Option<Box<[u8]>>, Values)>,
}

impl Tracked {
    /// A session that has just started with these settings.
    pub fn new(startup: Arc<Settings>) -> Self {
        Self { settings: startup.clone(), startup, channels: Channels::default(), points: Vec::new() }
    }

    /// What the client started with.
    pub fn startup(&self) -> &Arc<Settings> {
        &self.startup
    }

    /// What holds for the session now.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The channels that it listens on, if the transaction is committed as it is now.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The same, to be told to the hub; `None` within a transaction that may still be rolled back.
    pub fn settled_channels(&mut self) -> Option<&mut Channels> {
        self.points.is_empty().then_some(&mut self.channels)
    }

    /// The channels that it listens on, whatever becomes of the transaction.
    pub fn committed_channels(&self) -> Vec<Channel> {
        self.points.first().map_or_else(|| self.channels.all(), |(_, values)| self.channels.all_at(values.channels))
    }

    /// Whether there are any of those.
    pub fn listens(&self) -> bool {
        match self.points.first() {
            None => !self.channels.is_empty(),
            Some((_, values)) => self.channels.count_at(values.channels) > 0,
        }
    }

    /// This setting is none any more, nor ever was one.
    pub fn forget(&mut self, name: &str) {
        let values = self.points.iter_mut().map(|(_, values)| &mut values.settings);
        for settings in values.chain([&mut self.startup, &mut self.settings]) {
            *settings = settings.with(name, None);
        }
    }

    /// Whether a change takes settings away from a server connection that the client started with: they must be put back before
    /// anything else runs (trap 52).
    pub fn is_undone_by(&self, change: &Change) -> bool {
        match change {
            Change::Set { name, value: SettingValue::Default } => self.startup.get(name).is_some(),
            Change::ResetAll | Change::DiscardAll => !self.startup.is_empty(),
            _ => false,
        }
    }

    /// Whether the client started with a value of this setting, and has that again.
    pub fn is_as_started(&self, name: &str) -> bool {
        let started = self.startup.get(name);
        started.is_some() && started == self.settings.get(name)
    }

    /// A statement that changes settings has succeeded. `on_server` are those of the connection on which it ran.
    pub fn apply(&mut self, change: &Change, on_server: &mut Arc<Settings>) {
        match change {
            Change::Set { name, value } => {
                self.remember_beginning(on_server);
                let value = match value {
                    SettingValue::Default => None,
                    SettingValue::Flat(text) => Some(Value::Text(text.clone())),
                    SettingValue::List(values) => Some(Value::of_set(name, values.clone())),
                };
                if name == "session_authorization" {
                    // The role goes with the user whose it was.
                    self.set("role", None, on_server);
                }
                let is_none = name == "role" && value.as_ref().and_then(Value::text) == Some("none");
                self.set(name, value.filter(|_| !is_none), on_server);
            }
            Change::ResetAll => {
                self.remember_beginning(on_server);
                self.settings = self.settings.reset_all(&self.startup);
                *on_server = on_server.reset_all(&Settings::none());
            }
            Change::DiscardAll => {
                self.remember_beginning(on_server);
                self.settings = self.startup.clone();
                *on_server = Settings::none();
                self.channels.clear();
            }
            Change::Listen(name) => {
                self.remember_beginning(on_server);
                self.channels.add(name);
            }
            Change::Unlisten(name) => {
                self.remember_beginning(on_server);
                self.channels.remove(name);
            }
            Change::UnlistenAll => {
                self.remember_beginning(on_server);
                self.channels.clear();
            }
            Change::Savepoint(name) => {
                self.remember_beginning(on_server);
                let values = self.values(on_server);
                self.points.push((Some(name.clone()), values));
            }
            Change::Release(name) => {
                if let Some(at) = self.point(name) {
                    self.points.truncate(at);
                }
            }
            Change::RollbackTo(name) => {
                if let Some(at) = self.point(name) {
                    self.points.truncate(at + 1);
                    let values = self.points[at].1.clone();
                    self.restore(values, on_server);
                }
            }
            _ => {}
        }
    }

    /// A statement or transaction has ended outside a block: the date style is what the server reported of it, since a value as it
    /// was set may be one half of it.
    pub fn settle_date_style(&mut self, reported: &Parameters, on_server: &mut Arc<Settings>) {
        let Some(value) = self.settings.get(DATE_STYLE) else { return };
        if on_server.get(DATE_STYLE) != Some(value) {
            // A RESET: what the client started with is still to be put back.
            return;
        }
        let Some(reported) = reported.get(b"DateStyle").and_then(|value| std::str::from_utf8(value).ok()) else {
            return;
        };
        if value.text() == Some(reported) {
            return;
        }
        let reported = Some(Value::Text(reported.to_owned()));
        self.settings = self.settings.with(DATE_STYLE, reported.clone());
        *on_server = on_server.with(DATE_STYLE, reported);
    }

    /// A server has ended the block well, and the client's own end of it is still to come: until then all of it can be taken back.
    pub fn ended_early(&mut self) {
        self.points.truncate(1);
    }

    /// The block goes on on a connection with these settings: there, nothing of what is kept was set within a transaction.
    pub fn goes_on(&mut self, on_server: &Arc<Settings>) {
        self.points.iter_mut().for_each(|(_, values)| values.on_server = on_server.clone());
    }

    /// The block has ended, and no server knows of it.
    pub fn ended_unseen(&mut self, rolled_back: bool) {
        match rolled_back {
            true => self.rolled_back(&mut Settings::none()),
            false => self.committed(),
        }
    }

    /// The transaction was committed.
    pub fn committed(&mut self) {
        self.points.clear();
    }

    /// The transaction was rolled back, or failed.
    pub fn rolled_back(&mut self, on_server: &mut Arc<Settings>) {
        let points = std::mem::take(&mut self.points);
        if let Some((_, values)) = points.into_iter().next() {
            self.restore(values, on_server);
        }
    }

    fn set(&mut self, name: &str, value: Option<Value>, on_server: &mut Arc<Settings>) {
        *on_server = on_server.with(name, value.clone());
        self.settings = self.settings.with(name, value.or_else(|| self.startup.get(name).cloned()));
    }

    fn remember_beginning(&mut self, on_server: &Arc<Settings>) {
        if self.points.is_empty() {
            let values = self.values(on_server);
            self.points.push((None, values));
        }
    }

    fn values(&self, on_server: &Arc<Settings>) -> Values {
        Values { settings: self.settings.clone(), on_server: on_server.clone(), channels: self.channels.mark() }
    }

    fn restore(&mut self, values: Values, on_server: &mut Arc<Settings>) {
        self.settings = values.settings;
        self.channels.go_back(values.channels);
        *on_server = values.on_server;
    }

    /// The last savepoint of this name.
    fn point(&self, wanted: &[u8]) -> Option<usize> {
        self.points.iter().rposition(|(name, _)| name.as_deref() == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tracked: &mut Tracked, server: &mut Arc<Settings>, sql: &str) {
        let Some(mut script) = Script::read(sql.as_bytes(), LexOptions::default(), &|_| None) else { return };
        for _ in 0..8 {
            for change in script.next_statement() {
                tracked.apply(&change.change, server);
            }
        }
    }

    fn text<'t>(tracked: &'t Tracked, name: &str) -> Option<&'t str> {
        tracked.settings().text(name)
    }

    #[test]
    fn trap_26_rollbacks_take_settings_back() {
        let mut server = Settings::none();
        let mut tracked = Tracked::new(Settings::intern([("a.x".to_owned(), "start".to_owned())]));
        run(&mut tracked, &mut server, "SET b.y = 'before'");
        tracked.committed();
        run(&mut tracked, &mut server, "SET b.y = 'one'; SAVEPOINT s; SET b.y = 'two'; SAVEPOINT t; SET b.y = 'three'");
        run(&mut tracked, &mut server, "ROLLBACK TO s");
        assert_eq!(text(&tracked, "b.y"), Some("one"));
        run(&mut tracked, &mut server, "RESET a.x; SET b.y TO DEFAULT; ROLLBACK TO S; ROLLBACK TO nowhere");
        assert_eq!(text(&tracked, "b.y"), Some("one"));
        run(&mut tracked, &mut server, "RELEASE s");
        tracked.rolled_back(&mut server);
        assert_eq!(text(&tracked, "b.y"), Some("before"));
        assert_eq!(server.text("b.y"), Some("before"));
        assert!(tracked.points.is_empty());
    }

    #[test]
    fn trap_26_what_a_block_has_set_is_kept_when_the_client_has_ended_it() {
        let (mut first, mut second) = (Settings::none(), Settings::none());
        let mut tracked = Tracked::new(Settings::none());
        run(&mut tracked, &mut first, "SET b.y = 'one'; SAVEPOINT s; SET b.y = 'two'");
        tracked.ended_early();
        second = second.with("b.y", tracked.settings().get("b.y").cloned());
        tracked.goes_on(&second);
        tracked.rolled_back(&mut second);
        assert_eq!((text(&tracked, "b.y"), second.text("b.y")), (None, Some("two")));
        run(&mut tracked, &mut first, "SET b.y = 'one'");
        tracked.ended_early();
        tracked.ended_unseen(false);
        tracked.ended_unseen(true);
        assert_eq!(text(&tracked, "b.y"), Some("one"));
    }

    #[test]
    fn trap_59_channels_are_transactional() {
        fn names(channels: &[Channel]) -> String {
            channels.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>().join(" ")
        }
        let mut server = Settings::none();
        let mut tracked = Tracked::new(Settings::none());
        run(&mut tracked, &mut server, "LISTEN a");
        tracked.committed();
        run(&mut tracked, &mut server, "LISTEN b; SAVEPOINT s; UNLISTEN *; LISTEN c");
        assert_eq!(
            (names(&tracked.channels().all()), names(&tracked.committed_channels())),
            ("c".to_owned(), "a".to_owned())
        );
        run(&mut tracked, &mut server, "ROLLBACK TO s; UNLISTEN a");
        tracked.committed();
        assert_eq!(names(&tracked.committed_channels()), "b");
        run(&mut tracked, &mut server, "DISCARD ALL");
        tracked.rolled_back(&mut server);
        assert_eq!(names(&tracked.channels().all()), "b");
        run(&mut tracked, &mut server, "DISCARD ALL");
        tracked.committed();
        assert!(tracked.channels().is_empty());
    }

    #[test]
    fn trap_52_reset_returns_to_what_the_session_started_with() {
        let mut server = Settings::intern([("a.x".to_owned(), "start".to_owned())]);
        let mut tracked = Tracked::new(server.clone());
        run(&mut tracked, &mut server, "SET a.x = 'other'; SET ROLE bob; RESET ALL");
        assert_eq!(text(&tracked, "a.x"), Some("start"));
        assert_eq!(text(&tracked, "role"), Some("bob"));
        assert_eq!((server.text("a.x"), server.text("role")), (None, Some("bob")));
        run(&mut tracked, &mut server, "SET SESSION AUTHORIZATION ann; SET ROLE none; DISCARD ALL");
        assert!(Arc::ptr_eq(tracked.settings(), tracked.startup()));
        assert!(server.is_empty());
    }
}
