//! A transfer of money, in all the ways it is written.

use fastrand::Rng;

use crate::support::frames::Batch;

/// Accounts, and what each has at the beginning.
pub const ACCOUNTS: u32 = 200;
pub const BALANCE: i64 = 1000;

/// A transfer's number is its client's times this, and its own.
pub const PER_CLIENT: u64 = 1_000_000;

/// What is prepared on every connection, with the text of each. A mark never goes back: what a client has sent that vanished may be
/// carried out behind what it did next on another connection.
pub const PREPARED: [(&str, &str); 5] = [
    ("take", "UPDATE account SET balance = balance - $2::bigint WHERE id = $1::int"),
    ("give", "UPDATE account SET balance = balance + $2::bigint WHERE id = $1::int"),
    ("book", "INSERT INTO transfer VALUES ($1::bigint, $2::int, $3::int, $4::int, $5::bigint)"),
    ("mark", "UPDATE mark SET seq = greatest(seq, $2::bigint) WHERE client = $1::int"),
    ("look", "SELECT here(), client, seq FROM mark WHERE client = $1::int"),
];

/// One transfer.
pub struct Transfer {
    pub id: u64,
    seq: u64,
    client: u64,
    source: u32,
    target: u32,
    amount: i64,
}

impl Transfer {
    /// A client's transfer of this number.
    pub fn draw(client: u64, seq: u64, rng: &mut Rng) -> Self {
        let source = rng.u32(0..ACCOUNTS);
        let target = (source + rng.u32(1..ACCOUNTS)) % ACCOUNTS;
        Self { id: client * PER_CLIENT + seq, seq, client, source, target, amount: rng.i64(1..100) }
    }

    /// Its statements, those on accounts in an order that keeps two transfers from waiting for each other.
    pub fn statements(&self) -> [String; 4] {
        let Self { id, seq, client, source, target, amount } = self;
        let mut moves = [
            (source, format!("UPDATE account SET balance = balance - {amount} WHERE id = {source}")),
            (target, format!("UPDATE account SET balance = balance + {amount} WHERE id = {target}")),
        ];
        moves.sort();
        let [(_, first), (_, second)] = moves;
        let mark = format!("UPDATE mark SET seq = greatest(seq, {seq}) WHERE client = {client}");
        let book = format!("INSERT INTO transfer VALUES ({id}, {client}, {source}, {target}, {amount})");
        [mark, first, second, book]
    }

    /// All of it in one statement.
    pub fn single(&self) -> String {
        let Self { id, seq, client, source, target, amount } = self;
        format!(
            "WITH m AS (UPDATE mark SET seq = greatest(seq, {seq}) WHERE client = {client}), \
             a AS (UPDATE account SET balance = balance + CASE id WHEN {source} THEN -{amount} ELSE {amount} END \
                   WHERE id IN ({source}, {target})) \
             INSERT INTO transfer VALUES ({id}, {client}, {source}, {target}, {amount})"
        )
    }

    /// Its statements by the names under which they are prepared.
    pub fn prepared(&self) -> [Batch; 4] {
        let text = |number: &dyn ToString| number.to_string();
        let run = |name: &str, values: &[String]| {
            let values: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
            Batch::new().bind("", name, &values).execute("", 0).sync()
        };
        let mut moves = [
            (self.source, run("take", &[text(&self.source), text(&self.amount)])),
            (self.target, run("give", &[text(&self.target), text(&self.amount)])),
        ];
        moves.sort_by_key(|(account, _)| *account);
        let [(_, first), (_, second)] = moves;
        let mark = run("mark", &[text(&self.client), text(&self.seq)]);
        let accounts = [text(&self.source), text(&self.target)];
        let [source, target] = accounts;
        let book = run("book", &[text(&self.id), text(&self.client), source, target, text(&self.amount)]);
        [mark, first, second, book]
    }
}
