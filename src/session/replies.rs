//! What the server still owes, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::{Prepared, Registry};
use crate::sql::Change;
use crate::wire::build;

use super::expect::Expect;
use super::names::Names;
use super::splice::Splice;
use super::tracked::Script;
use super::undo::Undo;

/// A Flush message.
const FLUSH: &[u8] = b"H\0\0\0\x04";

/// So much of what is under way is looked through to find out what a name stands for: in a pipeline of thousands of statements each
/// would otherwise cost as much as all before it.
const MOST_LOOKED_THROUGH: usize = 1000;

/// The queue of expected replies of one lease.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Expect>,
    /// How many had been awaited with the last one that is, or ends with, a ReadyForQuery: nothing is looked for in vain in a
    /// pipeline of thousands.
    ready: u64,
    /// The same of the last one that changes what the session keeps.
    scripts: u64,
    /// The same of the last one that unsettles a name.
    names: u64,
    /// The same of the last one that begins a block.
    begins: u64,
    /// The same of the last Sync of ours.
    own_syncs: u64,
    /// The same of the last Query that ended a sequence without a Sync.
    cut_short: u64,
    pushed: u64,
}

impl Replies {
    /// An empty queue in the memory of this one, of which nothing is awaited any more.
    pub fn renew(&mut self) -> Self {
        Self { queue: std::mem::take(&mut self.queue), ..Self::default() }
    }

    /// Forgets what is awaited, and keeps memory for so many at most.
    pub fn shrink(&mut self, most: usize) {
        if !self.queue.is_empty() || self.queue.capacity() > most {
            self.queue = VecDeque::new();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many are awaited.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many ReadyForQuery come before the session's settings are in force; 0 = they are.
    pub fn until_settings(&self) -> usize {
        let last = self.queue.iter().rposition(Expect::is_spared);
        last.map_or(0, |last| self.queue.iter().take(last + 1).filter(|expect| expect.is_ready()).count())
    }

    pub fn push(&mut self, expect: Expect) {
        self.pushed += 1;
        if expect.is_ready() {
            self.ready = self.pushed;
        }
        if expect.has_script() {
            self.scripts = self.pushed;
        }
        if expect.unsettles() {
            self.names = self.pushed;
        }
        if matches!(expect, Expect::Begin) {
            self.begins = self.pushed;
        }
        if matches!(expect, Expect::Sync { ours: true }) {
            self.own_syncs = self.pushed;
        }
        self.queue.push_back(expect);
    }

    /// How many replies have been awaited.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    pub fn head(&self) -> Option<&Expect> {
        self.queue.front()
    }

    /// What the statement changes that has just completed, if it is one that changes what the session keeps.
    pub fn script(&mut self) -> Option<&mut Script> {
        match self.queue.front_mut() {
            Some(Expect::Simple { script, .. } | Expect::Execute { script }) => script.as_deref_mut(),
            _ => None,
        }
    }

    /// Something came of what ends the client's block.
    pub fn take_answer_of_end(&mut self, tag: u8, body: &[u8]) {
        if let Some(Expect::OwnEnd(end)) = self.queue.front_mut() {
            end.take_answer(tag, body);
        }
    }

    /// A ParameterDescription came. Whether it is the client's, who is told once.
    pub fn tell_parameters(&mut self, body: &[u8]) -> bool {
        match self.queue.front_mut() {
            Some(Expect::Describe { begun, of, .. }) => {
                of.iter().for_each(|statement| statement.takes(body));
                !std::mem::replace(begun, true)
            }
            Some(Expect::Verify { .. }) => false,
            _ => true,
        }
    }

    pub fn pop(&mut self) -> Option<Expect> {
        self.queue.pop_front()
    }

    /// What is owed for the last message that was sent.
    pub fn last_sent(&self) -> Option<&Expect> {
        self.queue.iter().rev().find(|expect| !expect.is_made())
    }

    /// Whether a ReadyForQuery is outstanding: the transaction status is not known before it comes.
    pub fn owes_ready(&self) -> bool {
        self.ready > self.answered()
    }

    /// Whether another statement of the client's is under way behind the one that is answered now.
    pub fn owes_more(&self) -> bool {
        self.queue.iter().skip(1).any(|expect| matches!(expect, Expect::Simple { .. } | Expect::Execute { .. }))
    }

    /// Whether it is not known yet that the server has begun a block.
    pub fn owes_begin(&self) -> bool {
        self.begins > self.answered()
    }

    /// Whether a Sync of ours is outstanding: an error before it voids what the client sends up to its own.
    pub fn owes_own_sync(&self) -> bool {
        self.own_syncs > self.answered()
    }

    /// The Query that was sent last has ended a sequence of the extended protocol.
    pub fn cuts_short(&mut self) {
        self.cut_short = self.pushed;
    }

    /// Whether an error may come that voids a Query, and whatever is sent behind it up to the next Sync.
    pub fn is_cut_short(&self) -> bool {
        self.cut_short > self.answered()
    }

    /// How many of those awaited are no longer.
    fn answered(&self) -> u64 {
        self.pushed - self.queue.len() as u64
    }

    /// The queue was changed otherwise than at its ends.
    fn recount(&mut self) {
        let answered = self.answered();
        let count = |at: Option<usize>| at.map_or(0, |at| answered + at as u64 + 1);
        self.ready = count(self.queue.iter().rposition(Expect::is_ready));
        self.scripts = count(self.queue.iter().rposition(Expect::has_script));
        self.names = count(self.queue.iter().rposition(Expect::unsettles));
        self.begins = count(self.queue.iter().rposition(|expect| matches!(expect, Expect::Begin)));
        self.own_syncs = count(self.queue.iter().rposition(|expect| matches!(expect, Expect::Sync { ours: true })));
        if self.cut_short > 0 {
            // Which of them it was is not known any more.
            self.cut_short = count(self.queue.iter().rposition(|expect| matches!(expect, Expect::Simple { .. })));
        }
    }

    /// Whether so much is under way, of which some changes what the session keeps, that it is not to be looked through for each name.
    pub fn changes_too_much(&self) -> bool {
        self.scripts > self.answered() && self.queue.len() > MOST_LOOKED_THROUGH
    }

    /// Whether something under way may change what this name of the client's stands for.
    pub fn changes_name(&self, name: &[u8]) -> bool {
        self.scripts > self.answered()
            && self.queue.iter().any(|expect| match expect {
                Expect::Simple { script: Some(script), .. } | Expect::Execute { script: Some(script) } => {
                    script.all().any(|change| match change {
                        Change::Prepare { name: changed, .. } | Change::Deallocate(changed) => **changed == *name,
                        Change::DeallocateAll | Change::DiscardAll => true,
                        _ => false,
                    })
                }
                _ => false,
            })
    }

    /// Whether something under way, the open segment apart, may change how texts are read.
    pub fn changes_reading(&self) -> bool {
        let end = usize::try_from(self.ready.saturating_sub(self.answered())).unwrap_or(0);
        self.scripts > self.answered()
            && self.queue.range(..end).any(|expect| match expect {
                Expect::Simple { script: Some(script), .. } | Expect::Execute { script: Some(script) } => {
                    script.changes_reading()
                }
                _ => false,
            })
    }

    /// What is under way in segments that have ended, up to the last that unsettles a name: an error makes void what stands behind it in
    /// its segment, and what follows goes on without it.
    fn ended(&self) -> impl Iterator<Item = &Expect> {
        self.queue.range(..self.ended_count())
    }

    fn ended_count(&self) -> usize {
        let end = self.ready.min(self.names + 1).saturating_sub(self.answered() + 1);
        usize::try_from(end).unwrap_or(0)
    }

    /// Whether that is too much to be looked through for each name: then nothing is known before some of it is answered.
    fn is_long(&self) -> bool {
        self.ended_count() > MOST_LOOKED_THROUGH
    }

    /// Whether it is not known yet what stands under this name of the client's on the connection.
    pub fn unsettles_own(&self, name: &[u8]) -> bool {
        self.is_long()
            || self.ended().any(|expect| match expect {
                Expect::OwnParse { name: of }
                | Expect::OwnExecute { prepares: Some(of) }
                | Expect::TakeAway { name: of, .. } => **of == *name,
                _ => false,
            })
    }

    /// Whether it is not known yet if this shared statement stands on the connection.
    pub fn unsettles(&self, wanted: &Prepared) -> bool {
        self.is_long()
            || self.ended().any(|expect| match expect {
                Expect::Parse { statement, unnamed: false, .. } | Expect::Evict { statement } => {
                    statement.id == wanted.id
                }
                Expect::CloseStray { name } => *name == wanted.name,
                _ => false,
            })
    }

    /// Whether it is not known yet if the client has prepared or closed something under this name.
    pub fn prepares_name(&self, name: &[u8]) -> bool {
        self.is_long()
            || self.ended().any(|expect| match expect {
                Expect::Parse { client: Some((of, _)), .. }
                | Expect::MadeParse { name: of }
                | Expect::MadeClose { name: of, .. }
                | Expect::RawParse { client: Some(of) } => **of == *name,
                _ => false,
            })
    }

    /// Whether it is not known yet what stands as the unnamed statement, be it on the connection: something before the open segment has
    /// changed it, and an error may take that back.
    pub fn unsettles_unnamed(&self) -> bool {
        let open = usize::try_from(self.ready.saturating_sub(self.answered())).unwrap_or(0);
        let puts = |expect: &Expect| {
            matches!(expect, Expect::Parse { unnamed: true, .. } | Expect::CloseUnnamed { .. })
                || matches!(expect, Expect::Simple { unnamed: Some(_), .. })
        };
        open > 0 && !self.queue.range(open..).any(puts) && self.ended().any(puts)
    }

    /// Whether it is not known yet if this statement's columns are what they were.
    pub fn verifies(&self, id: u64) -> bool {
        self.queue.iter().any(|expect| matches!(expect, Expect::Verify { statement } if statement.id == id))
    }

    /// Whether the next ReadyForQuery is one that ends messages of ours before a Query.
    pub fn is_before_own_sync(&self) -> bool {
        matches!(self.queue.iter().find(|expect| expect.is_ready()), Some(Expect::OwnSync))
    }

    /// Whether all that is owed belongs to one segment of the client's that a Sync of its has ended.
    pub fn is_one_segment(&self) -> bool {
        matches!(self.queue.back(), Some(Expect::Sync { ours: false }))
            && self.queue.iter().filter(|expect| expect.is_ready() && !expect.is_ours()).count() == 1
    }

    /// Whether what is owed is the answer to one Query, or to one segment of the client's that ends with its Sync or Flush; `taken` are
    /// the client's bytes; `with_block` = the block that is begun before them can begin once more, too.
    pub fn can_repeat(&self, taken: &[u8], with_block: bool) -> bool {
        let mut readies = 0;
        for expect in &self.queue {
            match expect {
                Expect::Begin if with_block => {}
                // A name of the client's own, which is not free any more.
                Expect::RawParse { .. } | Expect::Begin | Expect::CopyEnd => return false,
                _ if expect.is_ready() && !expect.is_ours() => readies += 1,
                _ => {}
            }
        }
        match self.queue.back() {
            Some(Expect::Simple { .. } | Expect::Sync { ours: false }) => readies == 1,
            Some(_) => readies == 0 && taken.ends_with(FLUSH),
            None => false,
        }
    }

    /// Of a Query, Bind or Execute that is answered next: the type of its message, and how many such messages follow it.
    pub fn place_of_head(&self) -> Option<(u8, usize)> {
        let kind = |expect: &Expect| match expect {
            Expect::Simple { .. } => Some(b'Q'),
            Expect::Bind { .. } => Some(b'B'),
            Expect::Execute { .. } => Some(b'E'),
            _ => None,
        };
        let tag = kind(self.queue.front()?)?;
        Some((tag, self.queue.iter().skip(1).filter(|expect| kind(expect) == Some(tag)).count()))
    }

    /// Whether a ReadyForQuery is outstanding that is not only for ourselves.
    pub fn owes_client(&self) -> bool {
        self.owes_ready() && self.queue.iter().any(|expect| expect.is_ready() && !expect.is_ours())
    }

    /// Whether any of the replies owed is for the client.
    pub fn answers_client(&self) -> bool {
        !self.queue.iter().all(|expect| expect.is_ours() || matches!(expect, Expect::Close { ours: true }))
    }

    /// How many of the replies owed answer a message that was sent.
    pub fn sent(&self) -> usize {
        self.queue.iter().filter(|expect| !expect.is_made()).count()
    }

    /// Adds what is owed once more; the statement `old` is `new` now.
    pub fn append(&mut self, mut owed: Self, old: &Prepared, new: &Arc<Prepared>) {
        for expect in &mut owed.queue {
            if let Expect::Bind { statement: Some(statement), .. } | Expect::Describe { of: Some(statement), .. } =
                expect
                && statement.id == old.id
            {
                *statement = new.clone();
            }
        }
        self.pushed += owed.queue.len() as u64;
        self.queue.append(&mut owed.queue);
        self.recount();
    }

    /// Whether nothing of the client's is outstanding: what we sent ourselves leaves the transaction status as it is known.
    pub fn all_ours(&self) -> bool {
        self.queue.iter().all(Expect::is_ours)
    }

    /// Whether anything is outstanding but what we ourselves have sent ahead.
    pub fn owes_answers(&self) -> bool {
        !self.queue.iter().all(|expect| expect.is_ours() || matches!(expect, Expect::Begin))
    }

    /// Whether nothing is to come from the server: all that is left is for us to make.
    pub fn all_made(&self) -> bool {
        self.queue.iter().all(Expect::is_made)
    }

    /// Makes the replies at the head that are ours to make (trap 32: each in its place).
    #[inline]
    pub fn make_leading(&mut self, splice: &mut Splice<'_>) {
        if self.head().is_some_and(Expect::is_made) {
            self.make(splice);
        }
    }

    #[cold]
    fn make(&mut self, splice: &mut Splice<'_>) {
        while self.head().is_some_and(Expect::is_made) {
            match self.queue.pop_front() {
                Some(Expect::Notice(notice)) => notice.encode(splice.insert()),
                Some(Expect::MadeParse { .. }) => build::bare(splice.insert(), b'1'),
                Some(Expect::MadeClose { .. }) => build::bare(splice.insert(), b'3'),
                _ => {}
            }
        }
    }

    /// An error came in an extended-protocol sequence: the server skips to the next Sync, so nothing comes for what stands
    /// before it, a Query included; what those messages would have changed is taken back (trap 33). Returns whether a Sync is on its way.
    pub fn fail_to_sync(&mut self, names: &mut Names, registry: &mut Registry) -> bool {
        let is_sync = |expect: &Expect| matches!(expect, Expect::Sync { .. } | Expect::OwnSync);
        let sync = self.queue.iter().position(is_sync);
        let end = sync.unwrap_or(self.queue.len());
        let goes_on = self.queue.range(end..).any(Expect::ends_unnamed);
        let mut undo = Undo::new(names, registry, goes_on);
        for (at, expect) in self.queue.drain(..end).enumerate() {
            undo.undo(&expect, at == 0);
        }
        if let Some(before) = undo.unnamed_before
            && let Some(
                Expect::Parse { client: Some((_, previous)), .. }
                | Expect::CloseUnnamed { before: previous }
                | Expect::Simple { unnamed: previous @ Some(_), .. },
            ) = self.queue.iter_mut().find(|expect| expect.ends_unnamed())
        {
            *previous = before;
        }
        sync.is_some()
    }

    /// None of it is answered to the client, who sends it once more as it were: whatever it would have changed is taken back. The server
    /// owes it all the same.
    pub fn undo(&self, names: &mut Names, registry: &mut Registry) {
        let mut undo = Undo::new(names, registry, false);
        self.queue.iter().for_each(|expect| undo.undo(expect, false));
    }

    /// Whether the client's segment ends with what comes next: all before its Sync was skipped. One that was ended by a Sync of ours
    /// goes on for the client, and what still comes of it, a Query included, is for us to skip.
    pub fn is_at_clients_sync(&self) -> bool {
        matches!(self.queue.front(), Some(Expect::Sync { ours: false } | Expect::OwnSync))
    }

    /// The server began COPY IN: it ignores Syncs until CopyDone or CopyFail (trap 48), so those sent already will not be
    /// answered, unless the COPY fails before it reads them. Returns how many, and whether the end of the data is on its way already.
    pub fn copy_in_began(&mut self) -> (usize, bool) {
        let end = self.queue.iter().position(|expect| matches!(expect, Expect::CopyEnd));
        let until = end.map_or(self.queue.len(), |end| end + 1);
        let (mut index, mut syncs) = (0, 0);
        self.queue.retain(|expect| {
            let within = index < until;
            index += 1;
            syncs += usize::from(within && matches!(expect, Expect::Sync { .. }));
            !(within && matches!(expect, Expect::Sync { .. } | Expect::CopyEnd))
        });
        self.recount();
        (syncs, end.is_some())
    }
}
