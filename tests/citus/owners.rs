//! Owners of keys of every type, as Citus itself tells of them; and rows that are written in one way and read in the other.

use std::collections::BTreeSet;

use super::keys::KEYS;
use super::target::{SCHEMA, TYPES, Target, Tenant, read};
use crate::support::frames::Batch;
use crate::support::raw::RawClient;

fn rows(client: &mut RawClient, sql: &str) -> Vec<String> {
    client.rows(sql).into_iter().map(|mut row| row.remove(0).unwrap_or_default()).collect()
}

fn explain(client: &mut RawClient, sql: &str) -> Vec<String> {
    rows(client, &format!("EXPLAIN (ROUTE) {sql}"))
}

/// What is written at the owner is read through the coordinator, and the other way round.
fn is_written_and_read_both_ways(target: &Target, client: &mut RawClient, table: &str, value: &str, group: &str) {
    let read = format!("SELECT v FROM {table} WHERE k = {value}");
    let insert = format!("INSERT INTO {table} (k, v) VALUES ({value}, 'a')");
    // A fraction of a second may be rounded when it is written.
    let written_at = if value.contains('.') { "0" } else { group };
    assert_eq!(target.node_of(client, &insert), written_at, "{insert}");
    assert_eq!(target.run(0, &read), ["a"], "{read}");
    target.run(0, &format!("UPDATE {table} SET v = 'b' WHERE k = {value}"));
    assert_eq!(target.node_of(client, &read), group, "{read}");
    assert_eq!(rows(client, &read), ["b"], "{read}");
    let bound = Batch::new().run(&format!("SELECT v FROM {table} WHERE k = {value} AND v = $1"), &[Some("b")]).sync();
    assert!(client.exchange(&bound).iter().any(|frame| frame.tag == b'D'), "{read}");
    client.rows(&format!("BEGIN; DELETE FROM {table} WHERE k = {value}; COMMIT"));
    assert_eq!(rows(client, &read), [""; 0], "{read}");
}

pub fn are_those_that_citus_names(target: &Target) {
    let mut client = target.client();
    let [one, _] = target.tenants();
    let Tenant { key, group } = &one;
    let write = format!("DELETE FROM {SCHEMA}.t0 WHERE k = {key}");
    target.until("writes go to the owner", || target.node_of(&mut client, &write) == *group);
    let mut nodes = BTreeSet::new();
    for key in &KEYS {
        let (table, name) = (format!("{SCHEMA}.t{}", key.table), TYPES[key.table]);
        for value in key.values {
            let shard = format!("get_shard_id_for_distribution_column('{table}', {value}::{name})");
            let owner = format!(
                "SELECT groupid || ' ' || nodename || ':' || nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid) \
                 WHERE noderole = 'primary' AND shardid = {shard}"
            );
            let owner = target.run(0, &owner).remove(0);
            let (group, place) = owner.split_once(' ').unwrap();
            let told = explain(&mut client, &format!("SELECT v FROM {table} WHERE k = {value}"));
            assert_eq!(told[1].trim(), format!("node {place}"), "{table}, {value}");
            is_written_and_read_both_ways(target, &mut client, &table, value, group);
            nodes.insert(group.to_owned());
        }
    }
    assert!(nodes.len() > 1, "only {nodes:?} was asked");
    assert_eq!(target.node_of(&mut client, &read(&one)), *group);
}
