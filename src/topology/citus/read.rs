//! Reading a Citus cluster's catalogs on its coordinator.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Client;
use tokio_postgres::{Error, IsolationLevel, Row, Transaction};

use super::map::{CitusMap, CitusNode, ShardRange, ordered};
use crate::sql::{DistributedTable, Distribution, KeyType, TableKind};

/// Whether Citus is there at all, and where we are: workers know what the coordinator knows, and must not be taken for it.
const WHO: &str = "SELECT pg_catalog.to_regclass('pg_catalog.pg_dist_node') IS NOT NULL, \
    pg_catalog.to_regproc('pg_catalog.citus_version') IS NOT NULL";
pub(in crate::topology) const GROUP: &str = "SELECT groupid FROM pg_catalog.pg_dist_local_group";
const VERSION: &str = "SELECT pg_catalog.citus_version()::text";

const NODES: &str = "SELECT nodeid, groupid, nodename::text, nodeport, noderole::text, nodecluster::text, isactive, \
    hasmetadata AND coalesce(metadatasynced, false) \
    FROM pg_catalog.pg_dist_node ORDER BY groupid, nodeid";

/// What of the tables matters: how, and by what column, of which type. Collations that call different bytes equal are hashed in another way.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text, p.partmethod::text, p.repmodel::text, p.colocationid, \
    a.attname::text, a.atttypid, coalesce(l.collisdeterministic, true), \
    EXISTS (SELECT FROM pg_catalog.pg_attribute i WHERE i.attrelid = p.logicalrelid AND i.attidentity OPERATOR(pg_catalog.<>) '') \
        OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid \
            JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' \
            WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
            AND f.adrelid = p.logicalrelid) \
        OR EXISTS (SELECT FROM pg_catalog.pg_attrdef f WHERE f.adrelid = p.logicalrelid \
            AND (pg_catalog.strpos(pg_catalog.pg_get_expr(f.adbin, f.adrelid), 'nextval') OPERATOR(pg_catalog.>) 0 \
                OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc q ON q.oid = d.refobjid AND q.provolatile = 'v' \
                    JOIN pg_catalog.pg_language g ON g.oid = q.prolang AND g.lanname NOT IN ('internal', 'c') \
                    WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass \
                    AND d.objid = f.oid))), \
    ARRAY(SELECT o.attname::text FROM pg_catalog.pg_attribute o JOIN pg_catalog.pg_type t ON t.oid = o.atttypid \
        WHERE o.attrelid = p.logicalrelid AND o.attnum > 0 AND NOT o.attisdropped \
        AND CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END OPERATOR(pg_catalog.>=) 16384::oid ORDER BY o.attnum) \
    FROM pg_catalog.pg_dist_partition p JOIN pg_catalog.pg_class c ON c.oid = p.logicalrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_attribute a \
        ON a.attrelid = p.logicalrelid AND a.attnum = pg_catalog.substring(p.partkey, ':varattno (\\d+)')::int2 \
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
    ORDER BY n.nspname, c.relname";

/// Placements that can be used. Placements are known by shard and group: their own numbers differ from node to node.
const SHARDS: &str = "SELECT DISTINCT p.colocationid, s.shardminvalue::int4, s.shardmaxvalue::int4, pl.groupid \
    FROM pg_catalog.pg_dist_partition p JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = p.logicalrelid \
    JOIN pg_catalog.pg_dist_placement pl ON pl.shardid = s.shardid AND pl.shardstate = 1 \
    WHERE p.partmethod = 'h' AND s.shardminvalue IS NOT NULL AND s.shardmaxvalue IS NOT NULL";

/// All of that in one number: small to send, and cheap to compare. A default that is set anew, a column that is renamed or becomes an
/// identity do not change their table's own row.
const FINGERPRINT: &str = "SELECT pg_catalog.md5(pg_catalog.concat(\
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(',', nodeid, groupid, nodename, nodeport, noderole, nodecluster, \
        isactive, hasmetadata, metadatasynced), ';' ORDER BY nodeid) FROM pg_catalog.pg_dist_node), '|', \
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(',', p.logicalrelid::oid, c.xmin, c.relname, c.relnamespace, p.partmethod, \
        p.partkey, p.colocationid, p.repmodel, (SELECT pg_catalog.sum(f.oid::int8) FROM pg_catalog.pg_attrdef f WHERE f.adrelid = c.oid), \
        (SELECT pg_catalog.sum(a.xmin::text::int8) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)), \
        ';' ORDER BY p.logicalrelid::oid) \
        FROM pg_catalog.pg_dist_partition p JOIN pg_catalog.pg_class c ON c.oid = p.logicalrelid), '|', \
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(',', s.shardid, s.shardminvalue, s.shardmaxvalue, pl.groupid, \
        pl.shardstate), ';' ORDER BY s.shardid, pl.groupid) \
        FROM pg_catalog.pg_dist_shard s JOIN pg_catalog.pg_dist_placement pl USING (shardid))))";

/// What a look found.
pub(super) enum Look {
    /// The database is not distributed by Citus, or the server is no coordinator.
    NoCitus,
    /// As the last look had it.
    Unchanged,
    /// This, with its fingerprint.
    New(Box<CitusMap>, String),
}

/// Looks whether the database is a Citus coordinator's, and reads what is another thing than `known`, the fingerprint of the last look.
///
/// # Errors
/// The server's, or the connection's.
pub(super) async fn look(client: &mut Client, known: Option<&str>) -> Result<Look, Error> {
    let who = client.query_one(WHO, &[]).await?;
    if !who.try_get::<_, bool>(0)? {
        return Ok(Look::NoCitus);
    }
    let group: Option<i32> = client.query_opt(GROUP, &[]).await?.map(|row| row.try_get(0)).transpose()?;
    if group != Some(0) {
        return Ok(Look::NoCitus);
    }
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let mark: String = transaction.query_one(FINGERPRINT, &[]).await?.try_get(0)?;
    if known == Some(&mark) {
        transaction.commit().await?;
        return Ok(Look::Unchanged);
    }
    let map = read(&transaction, who.try_get(1)?).await?;
    transaction.commit().await?;
    Ok(Look::New(Box::new(map), mark))
}

async fn read(transaction: &Transaction<'_>, tells_version: bool) -> Result<CitusMap, Error> {
    let version = if tells_version { transaction.query_one(VERSION, &[]).await?.try_get(0)? } else { String::new() };
    let nodes = transaction.query(NODES, &[]).await?.iter().map(node).collect::<Result<_, _>>()?;
    let tables = transaction.query(TABLES, &[]).await?.iter().map(table).collect::<Result<Vec<_>, _>>()?;
    let mut shards = HashMap::<u32, Vec<ShardRange>>::new();
    for row in transaction.query(SHARDS, &[]).await? {
        let range = ShardRange { least: row.try_get(1)?, greatest: row.try_get(2)?, group: number(row.try_get(3)?) };
        shards.entry(number(row.try_get(0)?)).or_default().push(range);
    }
    Ok(CitusMap {
        version,
        nodes,
        tables: Arc::new(Distribution::new(tables)),
        shards: shards.into_iter().map(|(colocation, ranges)| (colocation, ordered(ranges))).collect(),
    })
}

fn node(row: &Row) -> Result<CitusNode, Error> {
    let port: i32 = row.try_get(3)?;
    let role: &str = row.try_get(4)?;
    Ok(CitusNode {
        id: row.try_get(0)?,
        group: number(row.try_get(1)?),
        host: row.try_get(2)?,
        port: u16::try_from(port).unwrap_or(0),
        is_primary: role == "primary",
        is_secondary: role == "secondary",
        cluster: row.try_get(5)?,
        is_active: row.try_get(6)?,
        is_synced: row.try_get(7)?,
    })
}

fn table(row: &Row) -> Result<DistributedTable, Error> {
    let (method, model): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
    let column: Option<String> = row.try_get(5)?;
    let kind = match (method, model, column) {
        ("h", _, Some(column)) => {
            let key = KeyType::of_oid(row.try_get(6)?).filter(|_| row.try_get(7).unwrap_or(false));
            TableKind::Hash { colocation: number(row.try_get(4)?), column: column.into(), key }
        }
        ("n", "t", _) => TableKind::Reference,
        _ => TableKind::Other,
    };
    Ok(DistributedTable {
        schema: row.try_get::<_, String>(0)?.into(),
        name: row.try_get::<_, String>(1)?.into(),
        is_numbered: row.try_get(8)?,
        own_types: row.try_get::<_, Vec<String>>(9)?.into_iter().map(Into::into).collect(),
        kind,
    })
}

/// Groups and colocations are never negative.
fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
