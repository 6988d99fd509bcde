//! The queries. All of one reading run in one transaction, so that they see one state; versions 13 to 18 answer them.
//!
//! What a view, policy, default or constraint calls and reads is told by the OIDs in its stored expression tree: the server
//! picks them out, so that the trees themselves need not travel. Strings of users stand in a tree as bytes or with their
//! spaces escaped, so that they can't be taken for one of its fields.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, Row, Transaction};

use crate::sql::{Effects, FIRST_USER_OID};

use super::extensions;

/// One number for the state of all that a reading reads: what is changed has another `xmin`.
const FINGERPRINT: &str = "SELECT coalesce(sum(h), 0)::text, count(*), pg_is_in_recovery() FROM (
    SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 1 AS h FROM pg_class
        WHERE oid >= 16384 AND relpersistence <> 't' AND relkind IN ('r','v','m','f','p','S','c')
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 2 FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 3 FROM pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 4 FROM pg_policy
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 5 FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 6 FROM pg_constraint
        WHERE oid >= 16384 AND contype IN ('c', 'f')
    UNION ALL SELECT inhrelid::int8 * 31 + xmin::text::int8 * 1000003 + 7 FROM pg_inherits
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 8 FROM pg_attrdef
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 9 FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 10 FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 11 FROM pg_type WHERE oid >= 16384 AND typtype IN ('d', 'r')
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 12 FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 13 FROM pg_extension
    UNION ALL SELECT oid::int8 * 31 + xmin::text::int8 * 1000003 + 14 FROM pg_event_trigger) AS all_of_it";

/// How many rows of the catalogs above have been changed ever, as the server counts: a change is counted after its commit, up to
/// some seconds later. A standby counts none.
const ACTIVITY: &str = "SELECT sum(pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c)
        + pg_stat_get_tuples_deleted(c))::int8, pg_is_in_recovery()
    FROM unnest(ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_proc', 'pg_catalog.pg_rewrite', 'pg_catalog.pg_policy',
        'pg_catalog.pg_trigger', 'pg_catalog.pg_constraint', 'pg_catalog.pg_inherits', 'pg_catalog.pg_attrdef',
        'pg_catalog.pg_operator', 'pg_catalog.pg_cast', 'pg_catalog.pg_type', 'pg_catalog.pg_namespace',
        'pg_catalog.pg_extension', 'pg_catalog.pg_event_trigger']::regclass[]) AS c";

const SCHEMAS: &str = "SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)' ORDER BY oid";

/// Last, whether its text speaks of temporary objects, of settings for more than the transaction, of advisory locks of the session, of
/// cursors that are held, of prepared statements that are given up, and of a change of the schema (where it speaks of temporary objects,
/// what it drops are those). One in standard SQL (`BEGIN ATOMIC`, `RETURN`) is stored as a tree, of which the server makes a text again.
const FUNCTIONS: &str =
    "SELECT p.oid, p.pronamespace, p.proname, p.provolatile::text, p.prokind::text, p.pronargs::int4,
        p.pronargdefaults::int4, p.provariadic <> 0, coalesce(t.typtype IN ('c', 'p') AND p.pronargs = 1, false),
        CASE WHEN p.provolatile = 'v' THEN pg_get_function_identity_arguments(p.oid) END, e.extname,
        ARRAY[a.aggtransfn::oid, a.aggfinalfn::oid, a.aggmtransfn::oid, a.aggmfinalfn::oid],
        p.provolatile = 'v' AND source ILIKE '%temp%' AND source ~* '\\m(temp|temporary|pg_temp)\\M',
        p.provolatile = 'v' AND (source ~* '(^|;|\\m(begin|then|else|loop)\\M)\\s*set\\s+(?!(local|transaction|constraints)\\M)'
            OR source ILIKE '%pg_settings%'
            AND source ~* '\\mupdate\\s+(only\\s+)?(\"?pg_catalog\"?\\s*\\.\\s*)?\"?pg_settings\\M'
            OR source ILIKE '%set_config%'
            AND regexp_replace(source, 'set_config\\s*\\([^;]*?,\\s*true\\s*\\)', '', 'gi') ILIKE '%set_config%'),
        p.provolatile = 'v' AND source ILIKE '%advisory_lock%' AND source ~* '\\mpg_(try_)?advisory_lock(_shared)?\\M',
        p.provolatile = 'v' AND source ~* '\\mwith\\s+hold\\M',
        p.provolatile = 'v' AND source ILIKE '%deallocate%' AND source ~* '\\mdeallocate\\M',
        p.provolatile = 'v' AND source ~* '\\m(create|alter|drop|import)\\M'
            AND CASE WHEN source ~* '\\m(temp|temporary|pg_temp)\\M'
                THEN regexp_replace(source, '\\mdrop\\s+(table|view|sequence)\\M', '', 'gi') ELSE source END
            ~* ('\\m(create(\\s+or\\s+replace)?|alter|drop|import)\\s+((unlogged|materialized|recursive|constraint|event|foreign)\\s+)?'
                || '(table|view|sequence|schema|function|procedure|routine|aggregate|operator|trigger|rule|policy|type|domain|cast|extension)\\M'
                || '|\\m(create|alter|drop)\\s*''')
    FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid LEFT JOIN pg_type t ON t.oid = p.proargtypes[0]
    LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    LEFT JOIN pg_extension e ON e.oid = d.refobjid
    CROSS JOIN LATERAL (SELECT CASE WHEN p.prosrc = '' AND p.prolang = 14 AND p.prokind IN ('f', 'p')
        THEN pg_get_functiondef(p.oid) ELSE p.prosrc END AS source OFFSET 0) AS body
    WHERE p.oid >= 16384 ORDER BY p.oid";

/// Functions that change the schema by what they call or write, given those that say it themselves: their texts have the name of another
/// such function, or of a table with a trigger that calls one.
const DEFINING: &str = "WITH RECURSIVE bodies AS MATERIALIZED (
        SELECT oid, lower(proname) AS name, lower(CASE WHEN prosrc = '' AND prolang = 14 AND prokind IN ('f', 'p')
            THEN pg_get_functiondef(oid) ELSE prosrc END) AS source
        FROM pg_proc WHERE oid >= 16384 AND provolatile = 'v' AND prokind IN ('f', 'p')
    ), found(oid, name) AS (
        SELECT oid, name FROM bodies WHERE oid = ANY($1)
        UNION SELECT other.oid, other.name FROM found CROSS JOIN LATERAL (
            SELECT oid, name FROM bodies WHERE strpos(source, found.name) > 0
                AND (found.name !~ '^[a-z0-9_]+$' OR source ~ ('\\m' || found.name || '\\M'))
            UNION ALL SELECT c.oid, lower(c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                WHERE t.tgfoid = found.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
        ) AS other
    ) SELECT oid FROM found";

/// STABLE functions that read foreign tables: their texts have the name of one, of what is over one, or of another such function.
const READING_FOREIGN: &str = "WITH RECURSIVE bodies AS MATERIALIZED (
        SELECT oid, lower(proname) AS name, lower(CASE WHEN prosrc = '' AND prolang = 14
            THEN pg_get_functiondef(oid) ELSE prosrc END) AS source
        FROM pg_proc WHERE oid >= 16384 AND provolatile = 's' AND prokind = 'f'
    ), found(catalog, oid, name) AS (
        SELECT 'pg_class'::regclass::oid, oid, lower(relname) FROM pg_class WHERE relkind = 'f'
        UNION SELECT other.catalog, other.oid, other.name FROM found CROSS JOIN LATERAL (
            SELECT 'pg_proc'::regclass::oid AS catalog, oid, name FROM bodies WHERE strpos(source, found.name) > 0
                AND (found.name !~ '^[a-z0-9_]+$' OR source ~ ('\\m' || found.name || '\\M'))
            UNION ALL SELECT 'pg_class'::regclass, c.oid, lower(c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
                WHERE found.catalog = 'pg_class'::regclass AND i.inhrelid = found.oid
            UNION ALL SELECT 'pg_class'::regclass, c.oid, lower(c.relname) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
                JOIN pg_class c ON c.oid = r.ev_class
                WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = found.catalog AND d.refobjid = found.oid AND c.relkind = 'v'
        ) AS other
    ) SELECT oid FROM found WHERE catalog = 'pg_proc'::regclass";

const RELATIONS: &str =
    "SELECT oid, relnamespace, relname, relkind::text, relpersistence::text, relrowsecurity FROM pg_class
    WHERE relkind IN ('r','v','m','f','p','S') AND relpersistence <> 't' ORDER BY oid";

/// Expression trees: what kind, whose, the fields with OIDs that are in it, and whether it asks for the time by a word.
const TREES: &str = "SELECT kind, owner, ARRAY(SELECT DISTINCT m[1] || ' ' || m[2] FROM regexp_matches(tree,
            ':(funcid|opfuncid|aggfnoid|winfnoid|relid|resulttype|tsmhandler) ([1-9][0-9]*)', 'g') AS m ORDER BY 1),
        strpos(tree, '{SQLVALUEFUNCTION') > 0
    FROM (
        SELECT 'view' AS kind, r.ev_class AS owner, r.ev_action::text AS tree FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
            WHERE r.ev_type = '1' AND c.relkind = 'v' AND c.oid >= 16384 AND c.relpersistence <> 't'
        UNION ALL SELECT 'policy', polrelid, concat(polqual::text, polwithcheck::text) FROM pg_policy
        UNION ALL SELECT 'default', adrelid, adbin::text FROM pg_attrdef
            WHERE adbin::text ~ ':(funcid|opfuncid|resulttype) [1-9][0-9]{4}'
        UNION ALL SELECT 'check', conrelid, conbin::text FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
            AND oid >= 16384 AND conbin::text ~ ':(funcid|opfuncid|resulttype) [1-9][0-9]{4}'
        UNION ALL SELECT 'domain', contypid, conbin::text FROM pg_constraint WHERE contypid <> 0 AND oid >= 16384
        UNION ALL SELECT 'domain default', oid, typdefaultbin::text FROM pg_type WHERE typtype = 'd' AND oid >= 16384
            AND typdefaultbin::text ~ ':(funcid|opfuncid|resulttype) [1-9][0-9]{4}'
    ) AS trees ORDER BY 1, 2, 3";

const BUILTINS: &str = "SELECT oid, proname FROM pg_proc WHERE oid = ANY($1)";

const TRIGGERS: &str =
    "SELECT t.tgrelid, bit_or(t.tgtype::int4), p.proname, e.extname, p.oid FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    LEFT JOIN pg_extension e ON e.oid = d.refobjid
    WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' GROUP BY 1, 3, 4, 5 ORDER BY 1, 5";

const RULES: &str =
    "SELECT DISTINCT ev_class FROM pg_rewrite WHERE ev_type <> '1' AND ev_enabled <> 'D' AND oid >= 16384 ORDER BY 1";

const FOREIGN_KEYS: &str =
    "SELECT DISTINCT confrelid, conrelid, confupdtype::text, confdeltype::text FROM pg_constraint
    WHERE contype = 'f' AND (confupdtype IN ('c', 'n', 'd') OR confdeltype IN ('c', 'n', 'd')) ORDER BY 1, 2, 3, 4";

const INHERITS: &str = "SELECT inhrelid, inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE c.relkind IN ('r', 'f', 'p') ORDER BY 1, 2";

const OPERATORS: &str = "SELECT oprname, oprcode::oid FROM pg_operator WHERE oid >= 16384 ORDER BY oid";

const CASTS: &str =
    "SELECT t.typname, c.castfunc, c.castcontext::text FROM pg_cast c JOIN pg_type t ON t.oid = c.casttarget
    WHERE c.oid >= 16384 AND c.castfunc <> 0 ORDER BY c.oid";

const DOMAINS: &str = "SELECT oid, typname, typbasetype FROM pg_type WHERE typtype = 'd' AND oid >= 16384 ORDER BY oid";

const DOMAIN_COLUMNS: &str =
    "SELECT DISTINCT attrelid, atttypid FROM pg_attribute WHERE attnum > 0 AND atttypid = ANY($1) ORDER BY 1, 2";

/// Types whose values hold one of these domains at any depth, in arrays, rows, ranges and other domains, and the domains themselves; last,
/// whether it is the row type of a table or view. (Before version 14 there is no column that names multiranges.)
const HOLDERS: &str = "WITH RECURSIVE parts(whole, part) AS (
        SELECT oid, typelem FROM pg_type WHERE typelem <> 0
        UNION ALL SELECT oid, typbasetype FROM pg_type WHERE typtype = 'd'
        UNION ALL SELECT t.oid, a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
            WHERE t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT rngtypid, rngsubtype FROM pg_range
        UNION ALL SELECT (to_jsonb(r) ->> 'rngmultitypid')::oid, rngsubtype FROM pg_range r
    ), holders(whole, domain) AS (
        SELECT oid, oid FROM pg_type WHERE oid = ANY($1)
        UNION SELECT p.whole, h.domain FROM holders h JOIN parts p ON p.part = h.whole
    )
    SELECT h.whole, h.domain, t.typname, coalesce(c.relkind <> 'c', false)
    FROM holders h JOIN pg_type t ON t.oid = h.whole LEFT JOIN pg_class c ON c.oid = t.typrelid ORDER BY 1, 2";

/// Functions with arguments of these types.
const TAKERS: &str = "SELECT DISTINCT p.oid, taken.of FROM pg_proc p, unnest(p.proargtypes::oid[]) AS taken(of)
    WHERE p.oid >= 16384 AND taken.of = ANY($1) ORDER BY 1, 2";

const EVENT_TRIGGERS: &str = "SELECT EXISTS (SELECT FROM pg_event_trigger WHERE evtenabled <> 'D')";

const EXTENSIONS: &str = "SELECT count(*) FROM pg_extension";

/// The state of the catalogs, as one comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark(String, i64);

/// A function of a user's, or of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    pub oid: u32,
    pub schema: u32,
    pub name: Box<str>,
    /// `i`, `s` or `v`, as declared.
    pub volatility: u8,
    /// An aggregate, whose arguments may stand in several places.
    pub aggregate: bool,
    pub least: usize,
    /// `None`: any number.
    pub most: Option<usize>,
    /// Its one argument is a row.
    pub of_row: bool,
    /// Its arguments, if it is volatile.
    pub arguments: Option<Box<str>>,
    pub extension: Option<Box<str>>,
    /// Of an aggregate: what it calls.
    pub calls: Box<[u32]>,
    /// What it may leave behind in the session, by its text (temporary objects, settings, locks, cursors, no prepared statements) or as
    /// is known of its extension.
    pub leaves: Effects,
    /// Its text says that it may change the schema.
    pub defines: bool,
    /// It is STABLE, and its text says that it reads a foreign table.
    pub reads_foreign: bool,
}

/// A table, view, materialized view, foreign table or sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub oid: u32,
    pub schema: u32,
    pub name: Box<str>,
    /// `relkind`.
    pub kind: u8,
    pub unlogged: bool,
    pub row_security: bool,
}

/// What an expression tree calls and reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    pub kind: Box<str>,
    pub owner: u32,
    pub functions: Box<[u32]>,
    pub relations: Box<[u32]>,
    /// Types that something in it is coerced to; domains are among them.
    pub types: Box<[u32]>,
    pub tells_time: bool,
}

/// A type whose values hold a domain with a check that calls a user's function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub oid: u32,
    pub domain: u32,
    pub name: String,
    /// It is the row type of a table or view.
    pub of_table: bool,
}

/// All that one reading brought.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub schemas: Vec<(u32, String)>,
    pub functions: Vec<Function>,
    pub relations: Vec<Relation>,
    pub trees: Vec<Tree>,
    pub builtins: Vec<(u32, String)>,
    /// `tgtype` bits of the triggers of a table by their function, whose OID comes last.
    pub triggers: Vec<(u32, i32, u32)>,
    pub rules: Vec<u32>,
    /// Referenced, referencing, on update, on delete.
    pub foreign_keys: Vec<(u32, u32, u8, u8)>,
    /// Child and parent.
    pub inherits: Vec<(u32, u32)>,
    pub operators: Vec<(String, u32)>,
    /// Target's name, function, context.
    pub casts: Vec<(String, u32, u8)>,
    /// OID, name, base type.
    pub domains: Vec<(u32, String, u32)>,
    /// Relation and domain.
    pub domain_columns: Vec<(u32, u32)>,
    pub holders: Vec<Holder>,
    /// Function and the type of one of its arguments, which holds a domain.
    pub takers: Vec<(u32, u32)>,
    pub event_triggers: bool,
    pub extensions: i64,
}

/// Changes of the catalogs that the server has counted; `None` where it counts none. To be asked outside of the transaction that then
/// reads, and before it: what is counted is then seen by it.
pub(super) async fn activity(client: &Client) -> Result<Option<i64>, Error> {
    let row = client.query_one(ACTIVITY, &[]).await?;
    let standby: bool = row.try_get(1)?;
    Ok(row.try_get::<_, Option<i64>>(0)?.filter(|_| !standby))
}

/// Looks how the catalogs stand, and how long that takes; reads them, too, if `wanted` says so of it.
pub(super) async fn read(
    client: &mut Client,
    wanted: impl FnOnce(&Mark) -> bool,
) -> Result<(Mark, Option<Reading>, Duration), Error> {
    let isolation = tokio_postgres::IsolationLevel::RepeatableRead;
    let tx = client.build_transaction().isolation_level(isolation).read_only(true).start().await?;
    let began = Instant::now();
    let row = tx.query_one(FINGERPRINT, &[]).await?;
    let took = began.elapsed();
    let mark = Mark(row.try_get(0)?, row.try_get(1)?);
    let reading = if wanted(&mark) { Some(read_all(&tx).await?) } else { None };
    tx.commit().await?;
    Ok((mark, reading, took))
}

async fn triggers(tx: &Transaction<'_>) -> Result<Vec<(u32, i32, u32)>, Error> {
    let all = rows(tx, TRIGGERS, |row| {
        let has_a_say = extensions::has_a_say(row.try_get(2)?, row.try_get(3)?);
        Ok(if has_a_say { Some((row.try_get(0)?, row.try_get(1)?, row.try_get(4)?)) } else { None })
    });
    Ok(all.await?.into_iter().flatten().collect())
}

async fn read_all(tx: &Transaction<'_>) -> Result<Reading, Error> {
    let mut reading = Reading {
        schemas: rows(tx, SCHEMAS, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?,
        functions: rows(tx, FUNCTIONS, function).await?,
        relations: rows(tx, RELATIONS, relation).await?,
        trees: rows(tx, TREES, tree).await?,
        triggers: triggers(tx).await?,
        rules: rows(tx, RULES, |row| row.try_get(0)).await?,
        foreign_keys: rows(tx, FOREIGN_KEYS, |row| {
            Ok((row.try_get(0)?, row.try_get(1)?, letter(row, 2)?, letter(row, 3)?))
        })
        .await?,
        inherits: rows(tx, INHERITS, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?,
        operators: rows(tx, OPERATORS, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?,
        casts: rows(tx, CASTS, |row| Ok((row.try_get(0)?, row.try_get(1)?, letter(row, 2)?))).await?,
        domains: rows(tx, DOMAINS, |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).await?,
        event_triggers: tx.query_one(EVENT_TRIGGERS, &[]).await?.try_get(0)?,
        extensions: tx.query_one(EXTENSIONS, &[]).await?.try_get(0)?,
        ..Reading::default()
    };
    let defining: Vec<u32> = reading.functions.iter().filter(|of| of.defines).map(|of| of.oid).collect();
    if !defining.is_empty() {
        let found = tx.query(DEFINING, &[&defining]).await?;
        let found = found.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<u32>, _>>()?;
        reading.functions.iter_mut().for_each(|function| function.defines |= found.contains(&function.oid));
    }
    if reading.relations.iter().any(|relation| relation.kind == b'f') {
        let found: BTreeSet<u32> = rows(tx, READING_FOREIGN, |row| row.try_get(0)).await?.into_iter().collect();
        reading.functions.iter_mut().for_each(|function| function.reads_foreign = found.contains(&function.oid));
    }
    let called = reading.trees.iter().flat_map(|tree| &*tree.functions).copied();
    let builtin: BTreeSet<u32> = called.filter(|oid| *oid < FIRST_USER_OID).collect();
    let builtin: Vec<u32> = builtin.into_iter().collect();
    for row in tx.query(BUILTINS, &[&builtin]).await? {
        reading.builtins.push((row.try_get(0)?, row.try_get(1)?));
    }
    // Few have domains with checks and defaults of their own; the columns of all tables are many.
    if reading.trees.iter().any(|tree| tree.kind.starts_with("domain")) {
        let domains: Vec<u32> = reading.domains.iter().map(|(oid, _, _)| *oid).collect();
        for row in tx.query(DOMAIN_COLUMNS, &[&domains]).await? {
            reading.domain_columns.push((row.try_get(0)?, row.try_get(1)?));
        }
    }
    // Fewer still call functions of users in them.
    let calls = |tree: &&Tree| &*tree.kind == "domain" && tree.functions.iter().any(|oid| *oid >= FIRST_USER_OID);
    let calling: Vec<u32> = reading.trees.iter().filter(calls).map(|tree| tree.owner).collect();
    if !calling.is_empty() {
        for row in tx.query(HOLDERS, &[&calling]).await? {
            let (oid, domain, name, of_table) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            reading.holders.push(Holder { oid, domain, name, of_table });
        }
        let types: Vec<u32> = reading.holders.iter().map(|holder| holder.oid).collect();
        for row in tx.query(TAKERS, &[&types]).await? {
            reading.takers.push((row.try_get(0)?, row.try_get(1)?));
        }
    }
    Ok(reading)
}

async fn rows<T>(tx: &Transaction<'_>, sql: &str, one: impl Fn(&Row) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    tx.query(sql, &[]).await?.iter().map(one).collect()
}

fn letter(row: &Row, column: usize) -> Result<u8, Error> {
    let text: &str = row.try_get(column)?;
    Ok(text.bytes().next().unwrap_or(b' '))
}

fn function(row: &Row) -> Result<Function, Error> {
    let count = |column| row.try_get::<_, i32>(column).map(|count| usize::try_from(count).unwrap_or_default());
    let (arguments, defaults) = (count(5)?, count(6)?);
    let (variadic, kind): (bool, u8) = (row.try_get(7)?, letter(row, 4)?);
    let calls: Vec<Option<u32>> = row.try_get(11)?;
    let boxed = |text: Option<&str>| text.map(Box::from);
    let (name, extension): (&str, Option<&str>) = (row.try_get(2)?, row.try_get(10)?);
    let mut leaves = Effects::empty();
    leaves.set(Effects::TEMP_OBJECT, row.try_get(12)?);
    leaves.set(Effects::UNKNOWN_SETTING, row.try_get(13)?);
    leaves.set(Effects::ADVISORY_LOCK, row.try_get(14)?);
    leaves.set(Effects::HOLD_CURSOR, row.try_get(15)?);
    leaves.set(Effects::DEALLOCATE_ALL, row.try_get(16)?);
    leaves |= extensions::leaves(extension, name);
    Ok(Function {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: name.into(),
        volatility: letter(row, 3)?,
        aggregate: kind == b'a',
        least: arguments.saturating_sub(defaults).saturating_sub(usize::from(variadic)),
        most: (!variadic).then_some(arguments),
        of_row: row.try_get(8)?,
        arguments: boxed(row.try_get(9)?),
        extension: boxed(extension),
        defines: row.try_get(17)?,
        reads_foreign: false,
        calls: calls.into_iter().flatten().filter(|oid| *oid >= FIRST_USER_OID).collect(),
        leaves,
    })
}

fn relation(row: &Row) -> Result<Relation, Error> {
    Ok(Relation {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get::<_, &str>(2)?.into(),
        kind: letter(row, 3)?,
        unlogged: letter(row, 4)? == b'u',
        row_security: row.try_get(5)?,
    })
}

fn tree(row: &Row) -> Result<Tree, Error> {
    let fields: Vec<&str> = row.try_get(2)?;
    let mut tree = Tree {
        kind: row.try_get::<_, &str>(0)?.into(),
        owner: row.try_get(1)?,
        functions: Box::default(),
        relations: Box::default(),
        types: Box::default(),
        tells_time: row.try_get(3)?,
    };
    let (mut functions, mut relations, mut types) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for field in fields {
        let Some((name, oid)) = field.split_once(' ') else { continue };
        let Ok(oid) = oid.parse::<u32>() else { continue };
        match name {
            "relid" => relations.insert(oid),
            "resulttype" => oid >= FIRST_USER_OID && types.insert(oid),
            _ => functions.insert(oid),
        };
    }
    tree.functions = functions.into_iter().collect();
    tree.relations = relations.into_iter().collect();
    tree.types = types.into_iter().collect();
    Ok(tree)
}
