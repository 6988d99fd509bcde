//! Keys of every type, as literals and as parameters in both formats: the node that has the shard answers, as PostgreSQL's own hash
//! functions tell.

use tokio_postgres::types::{ToSql, Type};

use super::fixture::Fixture;
use crate::support::frames::Batch;
use crate::support::sql::{block_on, connect_with};

/// A type of distribution column: the number of its table, what PostgreSQL hashes a value by, and values as literals.
pub struct Key {
    pub table: usize,
    hash: &'static str,
    pub values: &'static [&'static str],
}

/// The hash opclass functions behind each type; of those that can't be called with it, the same over what they see.
pub const KEYS: [Key; 12] = [
    Key { table: 0, hash: "hashint8($$%$$)", values: &["5", "-7", "0", "9223372036854775807", "4294967296"] },
    Key { table: 1, hash: "hashint4($$%$$)", values: &["5", "-7", "2147483647"] },
    Key { table: 2, hash: "hashint2($$%$$::int2)", values: &["5", "-7", "32767"] },
    Key {
        table: 3, hash: "hashtext($$%$$)", values: &["'a'", "''", "'it''s one'", "'äöü'", "'日本語テナント'"]
    },
    Key { table: 4, hash: "hashtext($$%$$)", values: &["'tenant 1'", "'tenant 2'"] },
    Key { table: 5, hash: "hashbpchar($$%$$::bpchar)", values: &["'abc'", "'abc  '", "'x'"] },
    Key {
        table: 6,
        hash: "uuid_hash($$%$$)",
        values: &["'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "'{FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF}'"],
    },
    Key {
        table: 7,
        hash: "hashchar((CASE WHEN $$%$$::bool THEN 1 ELSE 0 END)::\"char\")",
        values: &["true", "false", "'on'"],
    },
    Key { table: 8, hash: "hashint4($$%$$::date - '2000-01-01'::date)", values: &["'2024-02-29'", "'1999-12-31'"] },
    Key { table: 9, hash: "timestamp_hash($$%$$::timestamp)", values: &["'2024-02-29 12:34:56.789'", "'1999-12-31'"] },
    Key {
        table: 10,
        hash: "timestamp_hash($$%$$::timestamptz AT TIME ZONE 'UTC')",
        values: &["'2024-02-29 12:34:56.789+02'", "'1999-12-31T00:00:00Z'"],
    },
    Key { table: 11, hash: "hashtext(convert_from($$%$$, 'UTF8'))", values: &["'\\x616263'", "'\\x'"] },
];

impl Key {
    /// The node that has a value, by PostgreSQL.
    fn owner(&self, fixture: &Fixture, literal: &str) -> String {
        let text = literal.trim_matches('\'').replace("''", "'");
        let hash = self.hash.replace('%', &text);
        let shard = format!(
            "SELECT groupid FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) WHERE logicalrelid = 'k{}'::regclass \
             AND {hash} BETWEEN shardminvalue::int8 AND shardmaxvalue::int8",
            self.table
        );
        format!("group {}", fixture.run(0, &shard))
    }

    fn read(&self, value: &str) -> String {
        format!("SELECT w.node, (SELECT count(*) FROM k{} WHERE k = {value}) FROM whoami AS w", self.table)
    }
}

fn literals_of_every_type_lead_to_their_shard(fixture: &Fixture) {
    let mut client = fixture.client();
    for key in &KEYS {
        for value in key.values {
            let owner = key.owner(fixture, value);
            assert_eq!(client.value(&key.read(value)), owner, "{}", key.read(value));
            let written = key.read(&format!("{value} OR false"));
            assert_eq!(client.value(&written), "group 0", "{written}");
        }
    }
}

fn parameters_in_text_lead_to_their_shard(fixture: &Fixture) {
    let mut client = fixture.client();
    for key in &KEYS {
        client.exchange(&Batch::new().parse(&format!("s{}", key.table), &key.read("$1"), &[]).sync());
        for value in key.values {
            let text = value.trim_matches('\'').replace("''", "'");
            let owner = key.owner(fixture, value);
            let bound = Batch::new().bind("", &format!("s{}", key.table), &[Some(&text)]).execute("", 0).sync();
            let frames = client.exchange(&bound);
            let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}"));
            assert_eq!(row.columns()[0].as_deref(), Some(owner.as_str()), "{}, {text}", key.read("$1"));
        }
    }
}

fn binary_parameters_of_a_driver_lead_to_their_shard(fixture: &Fixture) {
    let url = format!("host=127.0.0.1 port={} user=app password=app-secret dbname=app", fixture.proxy.port());
    block_on(async {
        let client = connect_with(&url.parse().unwrap()).await.unwrap();
        let bound: [(usize, &str, Type, Box<dyn ToSql + Sync>); 8] = [
            (0, "5", Type::INT8, Box::new(5i64)),
            (0, "-7", Type::INT4, Box::new(-7i32)),
            (1, "2147483647", Type::INT4, Box::new(i32::MAX)),
            (2, "-7", Type::INT2, Box::new(-7i16)),
            (3, "'äöü'", Type::TEXT, Box::new("äöü")),
            (4, "'tenant 1'", Type::VARCHAR, Box::new("tenant 1")),
            (7, "true", Type::BOOL, Box::new(true)),
            (11, "'\\x616263'", Type::BYTEA, Box::new(b"abc".to_vec())),
        ];
        for (table, literal, oid, value) in &bound {
            let key = &KEYS[*table];
            let statement = client.prepare_typed(&key.read("$1"), std::slice::from_ref(oid)).await.unwrap();
            let row = client.query_one(&statement, &[&**value]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), key.owner(fixture, literal), "{literal} as {oid}");
        }
    });
}

fn columns_whose_hash_is_not_computed_stay_with_the_coordinator(fixture: &Fixture) {
    let mut client = fixture.client();
    for (table, value) in [(12, "5"), (13, "'a'")] {
        let sql = format!("SELECT w.node, (SELECT count(*) FROM k{table} WHERE k = {value}) FROM whoami AS w");
        assert_eq!(client.value(&sql), "group 0", "{sql}");
    }
}

#[test]
fn keys_of_every_type_and_format_lead_to_their_shard() {
    let fixture = Fixture::new("");
    literals_of_every_type_lead_to_their_shard(&fixture);
    parameters_in_text_lead_to_their_shard(&fixture);
    binary_parameters_of_a_driver_lead_to_their_shard(&fixture);
    columns_whose_hash_is_not_computed_stay_with_the_coordinator(&fixture);
}
